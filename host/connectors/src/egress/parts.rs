//! What services take out of a value that authenticates, and may name one by one: what follows a scheme, user and password,
//! parameters, cookies, members of JSON, the lines of a key. Each of them is a secret of its own (THREATS row 1).
//!
//! What is no secret stays readable: short parts (the scrubber's own rule), parameters that are public by their name, and
//! names of people and accounts, unless they look like a key or stand in a key's place.

use base64::{Engine as _, alphabet, engine::general_purpose as engines};
use zeroize::Zeroizing;

use super::scrub::Scrubber;

/// So deep is a value taken apart.
const DEEPEST: usize = 4;

/// Passwords that are shorter guard nothing: the secret is the name before them.
const SHORTEST_PASSWORD: usize = 8;

/// A name that is so long, of letters and digits, is a key.
const SHORTEST_KEY: usize = 16;

/// The shortest line of a private key that is looked for by itself.
const SHORTEST_LINE: usize = 32;

/// Parameters of `Authorization` and cookies that say how, where and when, not who.
const PUBLIC: [&str; 24] = [
    "algorithm",
    "aud",
    "audience",
    "charset",
    "cnonce",
    "created",
    "domain",
    "expires",
    "headers",
    "host",
    "max-age",
    "nc",
    "oauth_callback",
    "oauth_signature_method",
    "oauth_timestamp",
    "oauth_version",
    "path",
    "qop",
    "realm",
    "samesite",
    "scope",
    "signedheaders",
    "uri",
    "version",
];

/// Parameters that name somebody.
const NAMES: [&str; 6] = ["client", "email", "login", "user", "user_id", "username"];

/// Adds a value and its parts.
pub(super) fn add(scrubber: &mut Scrubber, value: &str) {
    part(scrubber, value, 0);
}

/// Adds what a pair of user and password gives away.
pub(super) fn add_pair(scrubber: &mut Scrubber, user: &str, password: &str) {
    pair(scrubber, user, password, 0);
}

fn part(scrubber: &mut Scrubber, value: &str, depth: usize) {
    let value = value.trim();
    scrubber.add(value);
    if depth == DEEPEST || value.is_empty() {
        return;
    }
    let deeper = depth + 1;
    if let Some(text) = unquoted(value) {
        return part(scrubber, text, deeper);
    }
    if value.starts_with(['{', '['])
        && let Ok(json) = serde_json::from_str(value)
    {
        return members(scrubber, &json, deeper);
    }
    if value.contains("-----BEGIN ") {
        let lines = value.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let body = Zeroizing::new(lines.clone().collect::<String>());
        scrubber.add(&body);
        return lines.filter(|line| line.len() >= SHORTEST_LINE).for_each(|line| scrubber.add(line));
    }
    if let Some((scheme, rest)) = value.split_once([' ', '\t'])
        && is_scheme(scheme)
    {
        part(scrubber, rest, deeper);
    }
    parameters(scrubber, value, deeper);
    if let Some(decoded) = decoded(value) {
        return match decoded.split_once(':') {
            Some((user, password)) => pair(scrubber, user, password, deeper),
            None => part(scrubber, &decoded, deeper),
        };
    }
    if value.contains('%') {
        let plain = percent_encoding::percent_decode_str(value).decode_utf8();
        if let Some(plain) = plain.ok().filter(|plain| *plain != value) {
            part(scrubber, &plain, deeper);
        }
    }
    let is_address = value.contains("//");
    if let Some((user, password)) = value.split_once(':')
        && !is_address
        && !value.contains([' ', '\t', '='])
    {
        pair(scrubber, user, password, deeper);
    }
    // Such as the id of a key in `Credential=ID/20260101/region/service/aws4_request`.
    if !is_address && value.contains('/') && decoded(value).is_none() {
        let pieces = value.split('/').filter(|piece| piece.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        pieces.filter(|piece| is_key(piece)).for_each(|piece| scrubber.add(piece));
    }
}

/// `name=value`, one after another: parameters of a scheme, cookies, forms.
fn parameters(scrubber: &mut Scrubber, value: &str, depth: usize) {
    for pair in value.split([';', ',', '&', ' ', '\t']) {
        let Some((name, value)) = pair.split_once('=') else { continue };
        // `=` at the end is the padding of base64.
        if name.is_empty() || value.trim_matches('=').is_empty() {
            continue;
        }
        let name = name.trim().to_ascii_lowercase();
        let (is_public, is_name) = (PUBLIC.contains(&&*name), NAMES.contains(&&*name));
        if !is_public && (!is_name || is_key(value.trim().trim_matches('"'))) {
            part(scrubber, value, depth);
        }
    }
}

fn pair(scrubber: &mut Scrubber, user: &str, password: &str, depth: usize) {
    part(scrubber, password, depth);
    if password.len() < SHORTEST_PASSWORD || is_key(user) {
        part(scrubber, user, depth);
    }
}

fn members(scrubber: &mut Scrubber, value: &serde_json::Value, depth: usize) {
    match value {
        serde_json::Value::String(text) => part(scrubber, text, depth),
        serde_json::Value::Array(items) => items.iter().for_each(|item| members(scrubber, item, depth)),
        serde_json::Value::Object(fields) => {
            let is_told = |name: &str| {
                let name = name.to_ascii_lowercase();
                !PUBLIC.contains(&&*name)
                    && !NAMES.contains(&&*name)
                    && !["alg", "kty", "type"].contains(&&*name)
            };
            fields
                .iter()
                .filter(|(name, _)| is_told(name))
                .for_each(|(_, field)| members(scrubber, field, depth));
        }
        _ => {}
    }
}

fn unquoted(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// A token (RFC 9110 §11.1) that is not a parameter itself.
fn is_scheme(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// Something that nobody would type or read.
fn is_key(text: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| text.bytes().any(|byte| kind(&byte));
    text.len() >= SHORTEST_KEY
        && !text.contains(['@', ' '])
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
}

/// What a value is base64 of, if that is a text.
fn decoded(value: &str) -> Option<Zeroizing<String>> {
    let lenient = engines::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let bytes = [alphabet::STANDARD, alphabet::URL_SAFE]
        .into_iter()
        .find_map(|alphabet| engines::GeneralPurpose::new(&alphabet, lenient).decode(value).ok())?;
    let text = String::from_utf8(bytes).ok().map(Zeroizing::new)?;
    let is_readable = !text.is_empty() && !text.chars().any(char::is_control);
    is_readable.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Scrubber {
        let mut scrubber = Scrubber::default();
        add(&mut scrubber, value);
        scrubber
    }

    #[test]
    fn a06_every_part_of_a_value_is_a_secret_of_its_own() {
        let aws = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=\
                   host;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        for (value, parts) in [
            ("Bearer the-token-0123", &["the-token-0123"][..]),
            ("Bearer  \t the-token-0123 ", &["the-token-0123"]),
            ("Bearer Bearer the-token-0123", &["the-token-0123"]),
            ("Token token=abcd1234efgh5678", &["abcd1234efgh5678"]),
            (
                "Token token=\"abcd1234efgh5678\", nonce=\"0123456789abcdef\"",
                &["abcd1234efgh5678", "0123456789abcdef"],
            ),
            ("Basic dXNlcjphLXBhc3N3b3Jk", &["a-password", "dXNlcjphLXBhc3N3b3Jk"]),
            ("dXNlcjphLXBhc3N3b3Jk", &["a-password"]),
            ("basic YS1rZXktYXMtdXNlcjo=", &["a-key-as-user"]),
            ("session=abcdef0123456789; theme=dark", &["abcdef0123456789"]),
            ("a=%61bcdef0123456789; b=\"0123456789abcdef\"", &["abcdef0123456789", "0123456789abcdef"]),
            ("Digest username=\"ada\", response=\"0123456789abcdef\"", &["0123456789abcdef"]),
            (
                aws,
                &["AKIAIOSFODNN7EXAMPLE", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"],
            ),
            ("ApiKey an-id:the-secret-0123", &["the-secret-0123"]),
            (
                "{\"token\": \"abcd1234efgh5678\", \"n\": [\"0123456789abcdef\"]}",
                &["abcd1234efgh5678", "0123456789abcdef"],
            ),
            ("OAuth oauth_signature=\"tnnArxj06cWHq44gCs1OSKk%2FjLY%3D\"", &["tnnArxj06cWHq44gCs1OSKk/jLY="]),
            (
                "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n0123\n-----END PRIVATE KEY-----\n",
                &["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC0123", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"],
            ),
        ] {
            let scrubber = of(value);
            for part in parts {
                assert_eq!(scrubber.text(part), crate::egress::scrub::REDACTED, "{part} of {value}");
            }
        }
    }

    #[test]
    fn a06_what_is_no_secret_stays_readable() {
        for (value, text) in [
            (
                "Digest username=\"ada-lovelace\", realm=\"api.example.com\", uri=\"/a/long/path\"",
                "ada-lovelace",
            ),
            ("Digest username=\"ada-lovelace\", realm=\"api.example.com\"", "api.example.com"),
            (
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request",
                "us-east-1",
            ),
            ("Basic YWRhQGV4YW1wbGUuY29tOmEtcGFzc3dvcmQ=", "ada@example.com"),
            ("session=abcdef0123456789; theme=dark", "session theme dark"),
        ] {
            assert_eq!(of(value).text(text), text, "{value}");
        }
    }
}
