//! Where a text goes on in the next line.

/// The bytes of a line break that a text begins with.
pub(super) fn line_break_alone(text: &[u8]) -> Option<usize> {
    match text {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n' | b'\r', ..] => Some(1),
        _ => None,
    }
}

/// The bytes of a line break that a text begins with, with what the next line is indented by.
pub(super) fn line_break(text: &[u8]) -> Option<usize> {
    let len = line_break_alone(text)?;
    Some(len + text[len..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count())
}
