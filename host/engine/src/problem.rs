//! What is wrong with something that a caller handed in, and where.

/// A place in a definition that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer (RFC 6901) into the definition; empty for the whole.
    pub pointer: String,
    /// What is wrong there and what to do.
    pub message: String,
}

/// Which of the right names somebody meant who wrote another one; none if it looks like none of them.
pub fn nearest<'a>(wrong: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = |name: &str| name.to_lowercase().replace(['-', '_', ' '], "");
    let wrong = folded(wrong);
    let alike = |name: &str| strsim::jaro_winkler(&wrong, &folded(name));
    let best = right.into_iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= ALIKE).then_some(best)
}

/// From 0 (nothing in common) to 1 (the same).
const ALIKE: f64 = 0.8;

/// What serde says of a name that it does not know, with the one that was meant.
pub fn with_nearest(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let mut names = rest.split('`').step_by(2);
    let wrong = names.next().unwrap_or_default();
    match nearest(wrong, names) {
        Some(right) => format!("there is no field '{wrong}' here: '{right}' is meant?"),
        None => format!("there is no field '{wrong}' here{}", rest[wrong.len() + 1..].replace('`', "'")),
    }
}

impl Problem {
    /// A problem at a place.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found_and_nothing_is_made_up() {
        let right = ["time_zone_name", "cron_expressions", "end_at", "start_at", "policy", "overlap"];
        for (wrong, meant) in [
            ("timezone", Some("time_zone_name")),
            ("timeZoneName", Some("time_zone_name")),
            ("cronExpressions", Some("cron_expressions")),
            ("end-at", Some("end_at")),
            ("overlap_policy", Some("overlap")),
            ("zzz", None),
        ] {
            assert_eq!(nearest(wrong, right), meant, "{wrong}");
        }
        assert_eq!(
            with_nearest("unknown field `hours`, expected one of `second`, `minute`, `hour`"),
            "there is no field 'hours' here: 'hour' is meant?"
        );
        assert_eq!(
            with_nearest("unknown field `zzz`, expected `every` or `offset`"),
            "there is no field 'zzz' here, expected 'every' or 'offset'"
        );
        assert_eq!(with_nearest("invalid type: map"), "invalid type: map");
    }
}
