//! Where a browser may be sent in the end (THREATS row 13).

use url::Url;

use crate::ConnectorsError;

/// An address that the application wants the browser to come back to, if its origin is one of those that the operator
/// allows: exactly, scheme, host and port.
///
/// The text itself has to begin with the origin, so that no reader of addresses, however lenient, takes it for another.
pub(crate) fn return_url(allowed_origins: &[String], wanted: &str) -> Result<Url, ConnectorsError> {
    let refused = |message: &str| Err(ConnectorsError::invalid("/app_return_url", message));
    if !wanted.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return refused("it must be an address of plain characters, others percent-encoded");
    }
    let Ok(url) = Url::parse(wanted) else { return refused("it is not an address") };
    let is_allowed = allowed_origins.iter().any(|origin| {
        let origin = origin.trim_end_matches('/');
        let Some(rest) = wanted.strip_prefix(origin) else { return false };
        let ends_here = rest.is_empty() || rest.starts_with(['/', '?', '#']);
        ends_here
            && Url::parse(origin).is_ok_and(|allowed| {
                matches!(allowed.scheme(), "http" | "https") && allowed.origin() == url.origin()
            })
    });
    match is_allowed && url.username().is_empty() && url.password().is_none() {
        true => Ok(url),
        false => refused("its origin is not allowed: the operator lists the origins of applications"),
    }
}

/// The address with how it ended: `status` and the id of the flow, and nothing else.
pub(crate) fn with_outcome(mut url: Url, status: Outcome, id: &str) -> Url {
    let status = match status {
        Outcome::Success => "success",
        Outcome::Error => "error",
    };
    url.query_pairs_mut().append_pair("status", status).append_pair("id", id);
    url
}

/// How an authorisation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<String> {
        ["https://app.example", "http://localhost:3000/", "javascript:"].map(str::to_owned).into()
    }

    #[test]
    fn row_13_no_disguise_leads_to_another_origin() {
        for evasion in [
            "https://app.example.evil.example/",
            "https://app.example@evil.example/",
            "https://app.example:word@evil.example/",
            "https://user@app.example/",
            "https://evil.example\\@app.example/",
            "https://app.example\\.evil.example/",
            "//app.example/",
            "https:app.example/",
            "https:///app.example/",
            "http://app.example/",
            "https://app.example:8443/",
            "https://app.example./",
            "https://app\u{3002}example/",
            "https://ap\tp.example/",
            " https://app.example/",
            "https://app.example/\r\nLocation: https://evil.example/",
            "https://app%2eexample/",
            "https://evil.example/https://app.example/",
            "https://evil.example?https://app.example",
            "javascript:alert(1)//https://app.example",
            "data:text/html,https://app.example",
            "http://localhost:30000/",
            "http://127.0.0.1:3000/",
            "",
        ] {
            assert!(return_url(&allowed(), evasion).is_err(), "{evasion:?}");
        }
        assert!(return_url(&[], "https://app.example/").is_err());
    }

    #[test]
    fn an_allowed_application_gets_its_browser_back_with_the_outcome() {
        for good in ["https://app.example", "https://app.example/a/b?x=1#part", "http://localhost:3000/back"]
        {
            return_url(&allowed(), good).expect(good);
        }
        let url = return_url(&allowed(), "https://app.example/back?x=1").expect("allowed");
        let url = with_outcome(url, Outcome::Success, "flow-1");
        assert_eq!(url.as_str(), "https://app.example/back?x=1&status=success&id=flow-1");
        let url = return_url(&allowed(), "https://app.example").expect("allowed");
        let url = with_outcome(url, Outcome::Error, "flow-1");
        assert_eq!(url.as_str(), "https://app.example/?status=error&id=flow-1");
    }
}
