//! Content codings (RFC 9110 §8.4.1) that the client does not undo by itself: other names of known ones, several one after
//! another, and what is compressed without saying so. What is encoded in a way that is not known is refused: a secret in it
//! would not be seen.

use std::io::Read;

use http::{HeaderMap, header};

use super::Unanswered;

/// So many codings one after another.
const MOST: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

/// The codings that are left, in the order in which they were applied.
fn left(headers: &HeaderMap) -> Result<Vec<Coding>, Unanswered> {
    let mut codings = Vec::new();
    for field in headers.get_all(header::CONTENT_ENCODING) {
        let field = field.to_str().map_err(|_| Unanswered::Encoded)?;
        for name in field.split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "deflate" | "x-deflate" => codings.push(Coding::Deflate),
                "br" => codings.push(Coding::Brotli),
                // The last ones are mistakes of servers that encode nothing.
                "" | "identity" | "none" | "binary" | "utf-8" | "utf8" => {}
                _ => return Err(Unanswered::Encoded),
            }
        }
    }
    if codings.len() > MOST { Err(Unanswered::Encoded) } else { Ok(codings) }
}

/// Whether nothing is left to undo.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    left(headers).is_ok_and(|codings| codings.is_empty())
}

/// A body as it was before it was encoded, up to a limit.
pub(super) fn undone(
    headers: &HeaderMap,
    mut body: Vec<u8>,
    max_bytes: usize,
) -> Result<Vec<u8>, Unanswered> {
    if body.is_empty() {
        return Ok(body);
    }
    for coding in left(headers)?.into_iter().rev() {
        body = undo(coding, &body, max_bytes)?;
    }
    // A header that was sent twice counted once, or none was sent at all.
    let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
    let is_text = media.is_some_and(|media| {
        let media = media.to_ascii_lowercase();
        ["text/", "json", "xml", "yaml", "javascript", "x-www-form-urlencoded"]
            .iter()
            .any(|kind| media.contains(kind))
    });
    for _ in 0..MOST {
        if !is_text || !body.starts_with(&[0x1f, 0x8b, 8]) {
            break;
        }
        match undo(Coding::Gzip, &body, max_bytes) {
            Ok(inner) => body = inner,
            Err(Unanswered::TooLarge) => return Err(Unanswered::TooLarge),
            Err(_) => break,
        }
    }
    Ok(body)
}

fn undo(coding: Coding, body: &[u8], max_bytes: usize) -> Result<Vec<u8>, Unanswered> {
    match coding {
        Coding::Gzip => read(flate2::read::MultiGzDecoder::new(body), max_bytes),
        Coding::Brotli => read(brotli::Decompressor::new(body, 4 << 10), max_bytes),
        // Some leave the frame of zlib away.
        Coding::Deflate => match read(flate2::read::ZlibDecoder::new(body), max_bytes) {
            Err(Unanswered::Encoded) => read(flate2::read::DeflateDecoder::new(body), max_bytes),
            read => read,
        },
    }
}

fn read(decoder: impl Read, max_bytes: usize) -> Result<Vec<u8>, Unanswered> {
    let mut body = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(limit).read_to_end(&mut body).map_err(|_| Unanswered::Encoded)?;
    if body.len() > max_bytes { Err(Unanswered::TooLarge) } else { Ok(body) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    const TEXT: &[u8] = b"{\"a\": \"the text of an answer\"}";
    const LIMIT: usize = 1 << 20;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("is written");
        encoder.finish().expect("is written")
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("is written");
        encoder.finish().expect("is written")
    }

    fn deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("is written");
        encoder.finish().expect("is written")
    }

    fn brotli(body: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        let mut encoder = brotli::CompressorWriter::new(&mut encoded, 4 << 10, 5, 20);
        encoder.write_all(body).expect("is written");
        drop(encoder);
        encoded
    }

    fn of(codings: &[&str], media: &str, body: Vec<u8>) -> Result<Vec<u8>, Unanswered> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(header::CONTENT_ENCODING, coding.parse().expect("a value"));
        }
        headers.insert(header::CONTENT_TYPE, media.parse().expect("a value"));
        undone(&headers, body, LIMIT)
    }

    #[test]
    fn a25_known_codings_are_undone_by_all_their_names_and_in_their_order() {
        for (codings, body) in [
            (&[][..], TEXT.to_vec()),
            (&["identity"], TEXT.to_vec()),
            (&["UTF-8"], TEXT.to_vec()),
            (&["x-gzip"], gzip(TEXT)),
            (&["X-GZip"], gzip(TEXT)),
            (&["gzip, gzip"], gzip(&gzip(TEXT))),
            (&["gzip", "gzip"], gzip(&gzip(TEXT))),
            (&["br, x-gzip"], gzip(&brotli(TEXT))),
            (&["deflate ,identity"], zlib(TEXT)),
            (&["deflate"], deflate(TEXT)),
            // A header fewer than it should have.
            (&[], gzip(&gzip(TEXT))),
        ] {
            assert_eq!(of(codings, "application/json", body).as_deref(), Ok(TEXT), "{codings:?}");
        }
        // A file stays what it is.
        assert_eq!(of(&[], "application/gzip", gzip(TEXT)), Ok(gzip(TEXT)));
    }

    #[test]
    fn a25_unknown_codings_and_what_is_not_encoded_as_it_says_are_refused() {
        for codings in
            [&["zstd"][..], &["compress"], &["gzip, rot13"], &["gzip", "x"], &["gzip,gzip,gzip,gzip,gzip"]]
        {
            assert_eq!(of(codings, "text/plain", TEXT.to_vec()), Err(Unanswered::Encoded), "{codings:?}");
        }
        assert_eq!(of(&["gzip"], "text/plain", TEXT.to_vec()), Err(Unanswered::Encoded));
        assert_eq!(of(&["zstd"], "text/plain", Vec::new()), Ok(Vec::new()), "there is nothing in it");
    }

    #[test]
    fn a25_what_becomes_large_only_when_it_is_undone_is_refused() {
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(bomb.len() < 64 << 10);
        assert_eq!(of(&["x-gzip"], "text/plain", bomb.clone()), Err(Unanswered::TooLarge));
        assert_eq!(of(&["gzip, gzip"], "text/plain", gzip(&bomb)), Err(Unanswered::TooLarge));
        assert_eq!(of(&["br"], "text/plain", brotli(&vec![0; 8 << 20])), Err(Unanswered::TooLarge));
        assert_eq!(of(&["deflate"], "text/plain", zlib(&vec![0; 8 << 20])), Err(Unanswered::TooLarge));
    }
}
