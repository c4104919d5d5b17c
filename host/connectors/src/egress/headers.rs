//! Headers that others than the host may name (THREATS rows 6 and 7).

use http::{HeaderName, HeaderValue};

/// Headers that the host itself sets, or that would change where or how a request goes (THREATS row 7).
pub(crate) const RESERVED: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "accept",
    "accept-encoding",
    "expect",
    "forwarded",
    "via",
    "cookie",
    "set-cookie",
    "mcp-session-id",
    "mcp-protocol-version",
    "last-event-id",
];

/// A header that may be sent along, in its typed form: a line break in it is refused here (THREATS row 6).
pub(crate) fn check_header(name: &str, value: &str) -> Result<(), String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("'{name}' is not a header's name"))?;
    let lower = parsed.as_str();
    if RESERVED.contains(&lower) || lower.starts_with("proxy-") || lower.starts_with("x-forwarded-") {
        return Err(format!("the header '{name}' is set by the host alone"));
    }
    HeaderValue::from_str(value).map_err(|_| format!("the value of '{name}' cannot stand in a header"))?;
    Ok(())
}
