//! The pages that a browser sees while an account is connected. They are for people who may never have heard of airlock.
//!
//! Promises: whatever is put into a page is text and stays text; a page runs no script, loads nothing, is not framed, not
//! cached, and tells nobody where it was (THREATS rows 12 and 13). It holds no code, no state and no token.

use airlock_connectors::Purpose;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// Headers and HTML.
pub(crate) type Page = (HeaderMap, String);

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Success,
    Failure,
    /// Nothing has happened yet.
    Question,
}

/// Why an account was not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem<'a> {
    /// The link or the answer belongs to nothing that is known.
    Unknown,
    /// It took longer than ten minutes.
    Expired,
    /// It was finished before.
    Used,
    /// It was begun elsewhere.
    OtherBrowser,
    /// The person, or the server, did not agree.
    Denied {
        connector: &'a str,
        /// What the server said, already cut and cleaned.
        reason: &'a str,
    },
    /// Something else, in one sentence without secrets.
    Failed { connector: &'a str, reason: &'a str },
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1.125rem/1.5 system-ui,sans-serif;margin:0;padding:2rem 1rem}\
main{max-width:36rem;margin:10vh auto 0;padding-left:1.25rem;border-left:.375rem solid #6b7280}\
main.success{border-color:#15803d}\
main.failure{border-color:#b91c1c}\
h1{font-size:1.5rem;line-height:1.25;margin:0 0 1rem}\
p{margin:0 0 1rem;overflow-wrap:anywhere}\
button{font:inherit;padding:.5rem 1.25rem;border:0;border-radius:.375rem;background:#1d4ed8;color:#fff;cursor:pointer}\
button:focus-visible{outline:.1875rem solid;outline-offset:.1875rem}";

/// An account is connected.
pub(crate) fn connected(connector: &str, credential: &str, user: &str) -> Page {
    let paragraph = format!(
        "The account is stored as {} of the connector {} for the airlock user {}.",
        name(credential),
        name(connector),
        name(user)
    );
    render("Connected", &[paragraph, "You can close this window.".into()], "", Kind::Success)
}

/// An account was not connected.
pub(crate) fn problem(problem: Problem<'_>) -> Page {
    let again = || "Start again where you got the link.".to_owned();
    let (title, paragraphs) = match problem {
        Problem::Unknown => {
            ("This link is not known", vec!["It is incomplete, or it is from long ago.".into(), again()])
        }
        Problem::Expired => (
            "This took too long",
            vec!["An account has to be connected within 10 minutes after the link was made.".into(), again()],
        ),
        Problem::Used => (
            "This was finished already",
            vec!["Each link works once. If the account is not connected, start again where you got it.".into()],
        ),
        Problem::OtherBrowser => (
            "This was begun in another browser",
            vec![
                "For your safety, an account is connected only in the browser that opened the link first.".into(),
                "Go on there, or start again with a new link. If somebody sent you this address, close the window."
                    .into(),
            ],
        ),
        Problem::Denied { connector, reason } => (
            "The account was not connected",
            vec![format!("{} did not give access: {}", name(connector), quotation(reason)), again()],
        ),
        Problem::Failed { connector, reason } => (
            "The account could not be connected",
            vec![format!("Connecting {} failed: {}", name(connector), quotation(reason)), again()],
        ),
    };
    render(title, &paragraphs, "", Kind::Failure)
}

/// Asks, before the browser is sent away, whether the account shall be connected: where one will sign in, who will be able to
/// use the account, and what for. `action` is the path that the answer is posted to, and `token` goes with it.
pub(crate) fn confirm(purpose: &Purpose, token: &str, action: &str) -> Page {
    let Purpose { connector, credential, user, server, reaches } = purpose;
    let paragraphs = [
        format!(
            "You are asked to sign in at {} and to let airlock use that account. It will be stored as {} of the connector {}.",
            name(server),
            name(credential),
            name(connector)
        ),
        format!(
            "Then the airlock user {} can use the account: whatever they call and every workflow that they start acts as you \
             at {}, until the account is disconnected.",
            name(user),
            name(reaches)
        ),
        format!(
            "Go on only if {} is you. If somebody sent you this link, close the window: they would act with your account.",
            name(user)
        ),
    ];
    let form = format!(
        "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"token\" value=\"{}\"><button \
         type=\"submit\">Continue to {}</button></form>",
        escape(action),
        escape(token),
        name(server)
    );
    render("Connect your account?", &paragraphs, &form, Kind::Question)
}

/// `paragraphs` and `form` are HTML.
fn render(title: &str, paragraphs: &[String], form: &str, kind: Kind) -> Page {
    let title = escape(title);
    let (class, role) = match kind {
        Kind::Success => ("success", " role=\"status\""),
        Kind::Failure => ("failure", " role=\"alert\""),
        Kind::Question => ("question", ""),
    };
    let paragraphs: String = paragraphs.iter().map(|paragraph| format!("<p>{paragraph}</p>\n")).collect();
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} – airlock</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <main class=\"{class}\"{role}>\n<h1>{title}</h1>\n{paragraphs}{form}\n</main>\n</body>\n</html>\n"
    );
    (headers(kind), html)
}

fn headers(kind: Kind) -> HeaderMap {
    // A form whose answer is a redirect to another server needs that server's whole chain of redirects to be allowed by
    // `form-action`, so only pages without a form forbid forms.
    let forms = if kind == Kind::Question { "" } else { "; form-action 'none'" };
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; frame-ancestors 'none'{forms}"
    );
    let mut headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    ]);
    // Of the alphabet of base64 and of the words above.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers
}

/// A name, which cannot turn the direction of the text around it.
fn name(text: &str) -> String {
    format!("<strong><bdi>{}</bdi></strong>", escape(text))
}

/// What somebody else said.
fn quotation(text: &str) -> String {
    format!("<q><bdi>{}</bdi></q>", escape(text))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='alert(1)'>&amp;";

    fn purpose(of: [&str; 5]) -> Purpose {
        let [connector, credential, user, server, reaches] = of.map(str::to_owned);
        Purpose { connector, credential, user, server, reaches }
    }

    fn all(text: &str) -> Vec<Page> {
        vec![
            connected(text, text, text),
            confirm(&purpose([text; 5]), text, text),
            problem(Problem::Unknown),
            problem(Problem::Expired),
            problem(Problem::Used),
            problem(Problem::OtherBrowser),
            problem(Problem::Denied { connector: text, reason: text }),
            problem(Problem::Failed { connector: text, reason: text }),
        ]
    }

    #[test]
    fn what_is_put_into_a_page_stays_text() {
        for ((_, hostile), (_, harmless)) in all(HOSTILE).iter().zip(all("x")) {
            let tags = |html: &str| html.matches('<').count();
            assert_eq!(tags(hostile), tags(&harmless), "{hostile}");
            assert_eq!(hostile.matches('"').count(), harmless.matches('"').count(), "{hostile}");
            assert!(!hostile.contains("<script") && !hostile.contains("<img"), "{hostile}");
        }
    }

    #[test]
    fn row_12_a_page_loads_nothing_is_not_framed_and_not_kept() {
        for (headers, html) in all("x") {
            let header = |name: &str| headers[name].to_str().expect("text").to_owned();
            let policy = header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
            assert_eq!(policy.contains("form-action 'none'"), !html.contains("<form"), "{policy}");
            assert_eq!(header("cache-control"), "no-store");
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("x-frame-options"), "DENY");
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("content-type"), "text/html; charset=utf-8");
            let outside = ["src=", "href=", "url(", "@import", "<script", " style=", "http:", "https:"];
            assert!(outside.iter().all(|text| !html.contains(text)), "{html}");
            let style = html.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
            let hash = STANDARD.encode(Sha256::digest(style.expect("a style")));
            assert!(policy.contains(&hash), "the style has the hash of the policy");
        }
    }

    #[test]
    fn a14_pages_name_the_connector_the_servers_the_credential_and_the_user() {
        let (_, html) = connected("github", "work", "ann");
        assert!(["github", "work", "ann"].iter().all(|text| html.contains(&name(text))), "{html}");
        let action = "/v1/airlock/oauth/start/x";
        let (headers, html) =
            confirm(&purpose(["github", "work", "ann", "as.example", "api.example"]), "t0ken", action);
        let named = ["github", "work", "ann", "as.example", "api.example"];
        assert!(named.iter().all(|text| html.contains(&name(text))), "{html}");
        assert!(html.contains("<form method=\"post\" action=\"/v1/airlock/oauth/start/x\">"), "{html}");
        assert!(html.contains("name=\"token\" value=\"t0ken\""), "{html}");
        assert_eq!(headers["x-frame-options"], "DENY");
    }
}
