//! What an answer that is no JSON says to people: a text, or a page without its marks.
//!
//! Promises: nothing of what was sent is in it, it is one short line, and an answer that names a token is not quoted at all.

use super::{document::SECRETS, quote::quoted, text};
use crate::egress::scrub::Scrubber;

/// The words of a body that was sent with a failure, without `secrets`; none if it has no words that may be told.
pub(super) fn said(body: &[u8], secrets: &[&str]) -> Option<String> {
    let text = text::decoded(body);
    // What stands beside such a name may be a secret that nobody here knows; half a character is none of a text, and JSON
    // is none for people.
    if text.starts_with(['{', '[', '"'])
        || text.contains('\u{fffd}')
        || SECRETS.iter().any(|name| text.contains(name))
    {
        return None;
    }
    // As it was sent, then again without marks and line breaks, which could stand inside of a secret.
    let mut scrubber = Scrubber::default();
    for secret in secrets {
        scrubber.add(secret);
        scrubber.add(secret.trim());
    }
    let scrubbed = scrubber.text(&text);
    let words = match text.starts_with('<') {
        false => scrubbed.to_string(),
        true => {
            let words = without_marks(&scrubbed, " ");
            // A mark in the middle of a secret keeps it together for who reads the page.
            if scrubber.counted(&without_marks(&scrubbed, "")).1 > scrubber.counted(&words).1 {
                return None;
            }
            words
        }
    };
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(quoted(&line, secrets)).filter(|words| !words.trim().is_empty())
}

/// The text of a page: without tags, comments, scripts and styles, in whose place something else stands.
fn without_marks(page: &str, instead: &str) -> String {
    // Of the same length, so that places in the one are places in the other.
    let lower = page.to_ascii_lowercase();
    let (mut words, mut at) = (String::new(), 0);
    while let Some(tag) = lower[at..].find('<').map(|found| at + found) {
        words.push_str(&page[at..tag]);
        words.push_str(instead);
        let end = [("<!--", "-->"), ("<script", "</script"), ("<style", "</style")]
            .iter()
            .find(|(begin, _)| lower[tag..].starts_with(begin))
            .map_or(">", |(_, end)| *end);
        let Some(behind) = lower[tag..].find(end).map(|found| tag + found + end.len()) else {
            return told(&words);
        };
        at = match end.starts_with("</") {
            true => lower[behind..].find('>').map_or(lower.len(), |found| behind + found + 1),
            false => behind,
        };
    }
    words.push_str(&page[at..]);
    told(&words)
}

/// Words with the characters that stand for others in pages.
fn told(words: &str) -> String {
    let mut words = words.to_owned();
    // The last of them could make others.
    for (name, char) in [
        ("&nbsp;", " "),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ] {
        words = words.replace(name, char);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_text_and_of_a_page_are_told_in_one_line() {
        for (body, expected) in [
            ("Invalid client secret.\r\nAsk again", "Invalid client secret. Ask again"),
            (
                "<!DOCTYPE html><html><head><title>Bad&nbsp;Request</title><STYLE>p { color: red }</STYLE></head>\n\
                 <script>var a = '<p>';</script><!-- <b>not this --><body><p class=\"x\">redirect_uri &lt;&amp;lt;> is unknown",
                "Bad Request redirect_uri <&lt;> is unknown",
            ),
            ("<html><p>a</p><script>b", "a"),
            ("<html><p>a</p><b", "a"),
        ] {
            assert_eq!(said(body.as_bytes(), &[]).as_deref(), Some(expected), "{body}");
        }
        for none in [
            &b""[..],
            b" \r\n",
            b"<html><body></body></html>",
            b"no \xfe\xfd\xfc",
            b"your access_token is abcdefgh",
            b"{'error': 'no'}",
        ] {
            assert_eq!(said(none, &[]), None, "{}", String::from_utf8_lossy(none));
        }
    }

    #[test]
    fn row_02_what_was_sent_is_in_no_quotation_however_it_is_marked() {
        let secret = "the-code-that-was-sent<&>1";
        for body in [
            format!("no grant for {secret}"),
            format!("<html><p>no grant for {secret}</p>"),
            "<html><p>no grant for the-code-<wbr>that-was-sent&lt;&amp;&gt;1</p>".to_owned(),
            "<html><p>no grant for the-code-that-was-sent&lt;&amp;&gt;1</p>".to_owned(),
            format!("<html><input value=\"{secret}\"><p>no grant for the-code-that-was-sent%3C%26%3E1"),
            format!("{} {secret}", "x".repeat(190)),
        ] {
            let told = said(body.as_bytes(), &[secret]).unwrap_or_default();
            assert!(!told.contains("that-was-sent"), "{body}: {told}");
            assert!(told.chars().count() <= 201, "{told}");
        }
        let broken = "-----BEGIN KEY-----\nabcdefghijkl\nmnopqrstuvwx\n-----END KEY-----\n";
        let told = said(format!("this is no key: {broken}").as_bytes(), &[broken]).unwrap_or_default();
        assert!(!told.contains("abcdefgh") && !told.contains("mnopqrst"), "{told}");
    }
}
