//! How long things are as text.

/// Bytes of JSON text.
pub(in crate::rest) fn size(value: &impl serde::Serialize) -> usize {
    count(value, usize::MAX)
}

/// Whether a value is no longer than so many bytes of JSON text. A long one is not read to its end.
pub(in crate::rest) fn fits(value: &impl serde::Serialize, bytes: usize) -> bool {
    count(value, bytes) <= bytes
}

fn count(value: &impl serde::Serialize, limit: usize) -> usize {
    struct Counter {
        bytes: usize,
        limit: usize,
    }
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.bytes += bytes.len();
            if self.bytes > self.limit {
                Err(std::io::ErrorKind::FileTooLarge.into())
            } else {
                Ok(bytes.len())
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter { bytes: 0, limit };
    // It fails only at the limit, and then the count says so.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.bytes
}
