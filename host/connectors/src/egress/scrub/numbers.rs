//! Secrets of digits, which come back as numbers: with a point, an exponent, without zeros at the beginning, rounded to what
//! a JSON number holds, or in groups.

use std::ops::Range;

use zeroize::Zeroizing;

use super::SHORTEST;

/// What a number of more digits becomes when it is read as a JSON number is not exact.
const EXACT: usize = 15;

/// A secret as a number.
pub(super) struct Numeral {
    /// Its significant digits.
    digits: Zeroizing<String>,
    /// The place of the point behind the first of them.
    exponent: i64,
    value: f64,
    /// It is digits and nothing else, so it may stand anywhere among others.
    is_digits: bool,
}

impl Numeral {
    /// None if a secret can stand in no number.
    pub(super) fn of_secret(secret: &str) -> Option<Self> {
        let is_number = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
        let (digits, exponent) = secret.bytes().all(is_number).then(|| significant(secret)).flatten()?;
        let is_digits = secret.bytes().all(|byte| byte.is_ascii_digit());
        let value = secret.parse().unwrap_or(f64::NAN);
        Some(Self { digits: Zeroizing::new(digits), exponent, value, is_digits })
    }

    fn is(&self, number: &str) -> bool {
        let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let has_all = self.is_digits && self.digits.len() >= SHORTEST && digits.contains(&*self.digits);
        // The same number, exactly or as it is rounded.
        let is_same = || {
            significant(number)
                .is_some_and(|(digits, exponent)| digits == *self.digits && exponent == self.exponent)
        };
        let is_rounded = || self.digits.len() > EXACT && number.parse() == Ok(self.value);
        has_all || is_same() || is_rounded()
    }
}

/// The significant digits of a number, and the place of the point behind the first of them.
fn significant(number: &str) -> Option<(String, i64)> {
    let number = number.trim_start_matches(['+', '-']);
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let first = digits.bytes().position(|digit| digit != b'0').unwrap_or(digits.len());
    let point = i64::try_from(whole.len()).ok()? - i64::try_from(first).ok()?;
    let exponent = exponent.parse::<i64>().ok()?.checked_add(point)?;
    Some((digits[first..].trim_end_matches('0').to_owned(), exponent))
}

/// Whether a number is one of some secrets.
pub(super) fn is_one_of(numerals: &[Numeral], number: &str) -> bool {
    numerals.iter().any(|numeral| numeral.is(number))
}

/// Where numbers in a text are one of some secrets.
pub(super) fn places(numerals: &[Numeral], text: &[u8]) -> Vec<Range<usize>> {
    let fewest = numerals.iter().map(|numeral| numeral.digits.len().min(EXACT)).min();
    let Some(fewest) = fewest else { return Vec::new() };
    let (mut places, mut at) = (Vec::new(), 0);
    while let Some(begin) = text[at..].iter().position(u8::is_ascii_digit).map(|begin| at + begin) {
        at = end(text, begin);
        if at - begin >= fewest
            && let Ok(number) = std::str::from_utf8(&text[begin..at])
            && is_one_of(numerals, number)
        {
            places.push(begin..at);
        }
    }
    places
}

/// Where a number ends: its digits may be in groups, and it may have a point and an exponent.
fn end(text: &[u8], begin: usize) -> usize {
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = begin;
    loop {
        at += match text.get(at) {
            Some(b'0'..=b'9') => 1,
            Some(b'.' | b',' | b'_' | b'\'' | b'-' | b' ' | b'e' | b'E') if is_digit(at + 1) => 1,
            Some(b'e' | b'E') if matches!(text.get(at + 1), Some(b'+' | b'-')) && is_digit(at + 2) => 2,
            _ => return at,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a07_a_number_is_known_however_it_is_written() {
        let numerals = |secret: &str| vec![Numeral::of_secret(secret).expect("a number")];
        for (secret, number) in [
            ("4929113387650021", "4929113387650021"),
            ("4929113387650021", "4929113387650021.0"),
            ("4929113387650021", "4.929113387650021e15"),
            ("4929113387650021", "0.4929113387650021E+16"),
            ("4929113387650021", "49291133876500210e-1"),
            ("4929113387650021", "4929-1133-8765-0021"),
            ("4929113387650021", "4 929 113 387 650 021"),
            ("4929113387650021", "4,929,113,387,650,021.00"),
            ("0004929113387650021", "4929113387650021"),
            ("12345678901234567890123", "1.2345678901234568e22"),
            ("10000000", "1e7"),
            ("10000000", "1.0e+7"),
            ("-1234.5678", "-1234.5678"),
        ] {
            let text = format!("{{\"n\": {number}}}");
            assert_eq!(places(&numerals(secret), text.as_bytes()).len(), 1, "{secret} as {number}");
        }
        for (secret, number) in
            [("4929113387650021", "4929113387650022"), ("10000000", "1e8"), ("4929113387650021", "7")]
        {
            assert!(places(&numerals(secret), number.as_bytes()).is_empty(), "{secret} as {number}");
        }
        assert!(Numeral::of_secret("12345678a").is_none() && Numeral::of_secret("--------").is_none());
    }
}
