//! A foreign text, made fit to be shown (THREATS row 2).

use airlock_engine::printable::is_active;

use crate::{egress::scrub::Scrubber, error::wording::short};

/// Characters of a quotation.
const LONGEST: usize = 200;

/// A foreign text in one line, without `secrets` and cut.
pub(crate) fn quoted(text: &str, secrets: &[&str]) -> String {
    let mut scrubber = Scrubber::default();
    for secret in secrets {
        // As it stands there, and without the blanks and line breaks that some put around it.
        let plain: String = secret.chars().filter(|char| !is_control(*char)).collect();
        scrubber.add(secret);
        scrubber.add(plain.trim());
    }
    // First the control characters, which could stand inside a secret; last the cut, which could leave half of one.
    let text: String = text.chars().filter(|char| !is_control(*char)).collect();
    short(&scrubber.text(&text), LONGEST)
}

fn is_control(char: char) -> bool {
    is_active(char) || char == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_02_a_quotation_holds_no_secret_no_control_character_and_is_short() {
        let secret = "refresh-token-1234";
        let text = format!("bad\r\nthing \u{202e}{secret} {}", "x".repeat(500));
        let quotation = quoted(&text, &[secret]);
        assert!(quotation.chars().count() == LONGEST + 1 && quotation.ends_with('…'), "{quotation}");
        assert!(quotation.starts_with("badthing [REDACTED] xxx"), "{quotation}");
        let hidden = quoted("refresh-\u{0}token\u{200b}-1234", &[secret]);
        assert_eq!(hidden, "[REDACTED]");
        assert_eq!(quoted("no refresh-token-1234", &[" refresh-token-1234\r\n"]), "no [REDACTED]");
        let cut = quoted(&format!("{}{secret}", "y".repeat(LONGEST - 4)), &[secret]);
        assert!(!cut.contains("refr"), "{cut}");
    }
}
