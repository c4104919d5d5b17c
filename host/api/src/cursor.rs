//! Where a list goes on, as a text that says nothing to clients. One that was damaged, or that is of another list, is
//! refused: it would silently begin somewhere.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// So many bytes of a digest show that nothing was changed by accident.
const CHECK: usize = 4;

fn check(list: &str, key: &str) -> [u8; CHECK] {
    let digest: [u8; 32] =
        Sha256::new().chain_update(list).chain_update([0]).chain_update(key).finalize().into();
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest[..CHECK]);
    check
}

/// The cursor of a list after the entry with this key.
pub(crate) fn after(list: &str, key: &str) -> String {
    URL_SAFE_NO_PAD.encode([&check(list, key), key.as_bytes()].concat())
}

/// The key of the entry that a list goes on after.
pub(crate) fn key(list: &str, cursor: &str) -> Result<String, &'static str> {
    let read = || {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (found, key) = bytes.split_at_checked(CHECK)?;
        let key = std::str::from_utf8(key).ok()?;
        (found == check(list, key)).then(|| key.to_owned())
    };
    read().ok_or("it is not a cursor of this list: give what the page before said, or leave it out to begin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_not_otherwise() {
        for text in ["", "a", "morning-report", "Ü/x y", "18446744073709551615"] {
            let cursor = after("schedules", text);
            assert_eq!(key("schedules", &cursor), Ok(text.to_owned()));
            assert!(key("runs", &cursor).is_err(), "of another list");
            for position in 0..cursor.len() {
                let mut damaged = cursor.clone().into_bytes();
                damaged[position] = if damaged[position] == b'A' { b'B' } else { b'A' };
                let damaged = String::from_utf8(damaged).expect("ASCII");
                assert!(key("schedules", &damaged).is_err(), "{cursor} {damaged}");
                assert!(key("schedules", &cursor[..position]).is_err(), "{cursor} {position}");
            }
        }
        assert!(key("schedules", "morning-report").is_err());
    }
}
