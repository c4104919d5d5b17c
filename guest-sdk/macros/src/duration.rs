//! Durations in attributes: `"30s"`, `"1h30m"`.

use syn::LitStr;

/// Milliseconds.
pub(crate) fn parse(text: &LitStr) -> syn::Result<u64> {
    milliseconds(&text.value()).ok_or_else(|| {
        syn::Error::new(
            text.span(),
            "expected a duration such as \"500ms\", \"30s\", \"5m\", \"1h30m\" or \"7d\"",
        )
    })
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit_and_rest = rest.get(digits..)?;
        let end = unit_and_rest.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(unit_and_rest.len());
        let unit = match unit_and_rest.get(..end)? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = unit_and_rest.get(end..)?.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn numbers_with_units_are_added_up() {
        assert_eq!(milliseconds("500ms"), Some(500));
        assert_eq!(milliseconds("1h30m"), Some(5_400_000));
        assert_eq!(milliseconds("2m 5s"), Some(125_000));
        assert_eq!(milliseconds("7d"), Some(604_800_000));
    }

    #[test]
    fn anything_else_is_no_duration() {
        for text in ["", "5", "s", "1 h", "1w", "-1s", "99999999999999999999s"] {
            assert_eq!(milliseconds(text), None, "{text:?}");
        }
    }
}
