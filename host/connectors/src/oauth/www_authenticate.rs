//! `WWW-Authenticate` as servers write it (RFC 9110 §11.6.1): several challenges in one field or in several, in any order,
//! with spaces round `=`, without quotes, without commas between parameters, and with parameters that stand there twice.
//!
//! Nothing is ever refused here: what cannot be read is skipped.

use http::{HeaderMap, header};

/// Bytes that are read of one field.
const LONGEST: usize = 16 * 1024;

/// Challenges that are read in all.
const MOST: usize = 32;

/// Words that begin a challenge although no comma stands before them.
const SCHEMES: [&str; 14] = [
    "basic",
    "bearer",
    "digest",
    "dpop",
    "gnap",
    "hawk",
    "hoba",
    "mac",
    "mutual",
    "negotiate",
    "ntlm",
    "oauth",
    "privatetoken",
    "vapid",
];

/// One challenge: a scheme with its parameters in the order in which they stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Offer {
    pub(super) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The first parameter of a name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// All parameters of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.parameters.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer.
pub(super) fn offers(headers: &HeaderMap) -> Vec<Offer> {
    let mut all = Vec::new();
    for field in headers.get_all(header::WWW_AUTHENTICATE) {
        let bytes = field.as_bytes();
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
        Reader { rest: &text, all: &mut all }.read();
    }
    all.truncate(MOST);
    all
}

struct Reader<'a, 'b> {
    rest: &'a str,
    all: &'b mut Vec<Offer>,
}

impl<'a> Reader<'a, '_> {
    fn read(mut self) {
        // The challenge that parameters belong to is of this field, never of the one before.
        let mut is_open = false;
        // Whether the parameter before was written without quotes, so that a word behind it may belong to it.
        let mut is_bare = false;
        while self.all.len() <= MOST {
            let is_new = self.skip_gap();
            if self.rest.is_empty() {
                return;
            }
            let word = self.word();
            if word.is_empty() {
                // A quotation mark or a sign of equality without a name before it.
                match self.rest.strip_prefix('=') {
                    Some(rest) => self.rest = rest,
                    None => drop(self.value()),
                }
                continue;
            }
            let behind = self.rest.trim_start();
            if let Some(value) = behind.strip_prefix('=') {
                self.rest = value.trim_start();
                is_bare = is_open && !self.rest.starts_with('"');
                let value = self.value();
                if let Some(offer) = self.all.last_mut().filter(|_| is_open) {
                    offer.parameters.push((word.to_owned(), value));
                }
                continue;
            }
            let is_scheme = SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
            if is_bare
                && !is_new
                && !is_scheme
                && let Some((_, value)) = self.all.last_mut().and_then(|offer| offer.parameters.last_mut())
            {
                // `scope=read write` without the quotes that it needs.
                value.push(' ');
                value.push_str(word);
                continue;
            }
            self.all.push(Offer { scheme: word.to_owned(), parameters: Vec::new() });
            (is_open, is_bare) = (true, false);
        }
    }

    /// Skips spaces and commas; whether there was a comma.
    fn skip_gap(&mut self) -> bool {
        let rest =
            self.rest.trim_start_matches(|char: char| char.is_whitespace() || matches!(char, ',' | ';'));
        let gap = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        gap.contains(',')
    }

    /// A name: everything up to what cannot be part of one.
    fn word(&mut self) -> &'a str {
        self.take(|char| char.is_whitespace() || matches!(char, ',' | ';' | '=' | '"'))
    }

    fn value(&mut self) -> String {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let bare = self.take(|char| char.is_whitespace() || matches!(char, ',' | ';'));
            // Some write the quotes of their language.
            let inner = bare.strip_prefix('\'').and_then(|bare| bare.strip_suffix('\''));
            return inner.unwrap_or(bare).to_owned();
        };
        let (mut value, mut is_escaped) = (String::new(), false);
        for (place, char) in quoted.char_indices() {
            match char {
                _ if is_escaped => {
                    is_escaped = false;
                    value.push(char);
                }
                '\\' => is_escaped = true,
                '"' => {
                    self.rest = &quoted[place + 1..];
                    return value;
                }
                _ => value.push(char),
            }
        }
        self.rest = "";
        value
    }

    fn take(&mut self, is_end: impl Fn(char) -> bool) -> &'a str {
        let (taken, rest) = self.rest.split_at(self.rest.find(is_end).unwrap_or(self.rest.len()));
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[&str]) -> Vec<Offer> {
        let mut headers = HeaderMap::new();
        for field in fields {
            let value = HeaderValue::from_bytes(field.as_bytes()).expect("a header");
            headers.append(header::WWW_AUTHENTICATE, value);
        }
        offers(&headers)
    }

    fn offer(scheme: &str, parameters: &[(&str, &str)]) -> Offer {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Offer { scheme: scheme.into(), parameters: parameters.iter().map(own).collect() }
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let url = "https://x.example/a?b=c";
        for (fields, expected) in [
            (&["Bearer"][..], vec![offer("Bearer", &[])]),
            (
                &["Basic realm=\"a, Bearer b=c\", Bearer realm=\"x\""],
                vec![offer("Basic", &[("realm", "a, Bearer b=c")]), offer("Bearer", &[("realm", "x")])],
            ),
            (
                &["Negotiate", "Bearer a = 1 ,\tb= \"2\" , c =3"],
                vec![offer("Negotiate", &[]), offer("Bearer", &[("a", "1"), ("b", "2"), ("c", "3")])],
            ),
            (
                &["Negotiate YII=, NTLM TlRM==, Bearer a=b"],
                vec![
                    offer("Negotiate", &[("YII", "")]),
                    offer("NTLM", &[("TlRM", "=")]),
                    offer("Bearer", &[("a", "b")]),
                ],
            ),
            (
                &["Bearer realm=\"x\" resource_metadata=\"https://x.example/a?b=c\" Basic realm=\"y\""],
                vec![
                    offer("Bearer", &[("realm", "x"), ("resource_metadata", url)]),
                    offer("Basic", &[("realm", "y")]),
                ],
            ),
            (
                &["Bearer resource_metadata=https://x.example/a?b=c,scope=read write error=x"],
                vec![offer("Bearer", &[("resource_metadata", url), ("scope", "read write"), ("error", "x")])],
            ),
            (
                &["Bearer a=\"quoted \\\" \\\\\", a=2"],
                vec![offer("Bearer", &[("a", "quoted \" \\"), ("a", "2")])],
            ),
            (&["Bearer a=\"no end, b=c"], vec![offer("Bearer", &[("a", "no end, b=c")])]),
            (&["Bearer a='b', c='"], vec![offer("Bearer", &[("a", "b"), ("c", "'")])]),
            (&["a=b", ", ,Bearer ,, a=b,"], vec![offer("Bearer", &[("a", "b")])]),
            (&["Basic a=b", "c=d"], vec![offer("Basic", &[("a", "b")])]),
            (&["", "=,\"x\" Bearer"], vec![offer("Bearer", &[])]),
        ] {
            assert_eq!(read(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_field_without_end_and_fields_without_number_are_cut() {
        assert_eq!(read(&["Bearer, ".repeat(100_000).as_str()]).len(), MOST);
        assert_eq!(read(&vec!["Bearer"; 1000]).len(), MOST);
    }

    fn word() -> impl Strategy<Value = String> {
        "[A-Za-z][A-Za-z0-9._~+-]{0,8}"
    }

    /// A parameter, and whether it is written in quotes, with spaces round its sign.
    fn parameter() -> impl Strategy<Value = (String, String, bool, &'static str)> {
        let quoted = ("[ -~\t]{0,20}", Just(true));
        let bare = ("[A-Za-z0-9:/?=._~-]{1,20}", Just(false));
        let sign = prop_oneof![Just("="), Just(" = "), Just("= "), Just(" =")];
        (word(), prop_oneof![quoted, bare], sign)
            .prop_map(|(name, (value, is_quoted), sign)| (name, value, is_quoted, sign))
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(
            fields in prop::collection::vec(
                prop::collection::vec((word(), prop::collection::vec(parameter(), 0..5)), 1..4), 1..4,
            ),
            comma in prop_oneof![Just(", "), Just(","), Just(" ,\t")],
        ) {
            let mut texts = Vec::new();
            let mut expected = Vec::new();
            for field in &fields {
                let mut written = Vec::new();
                for (scheme, parameters) in field {
                    let listed = parameters.iter().map(|(name, value, is_quoted, sign)| match is_quoted {
                        true => format!("{name}{sign}\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
                        false => format!("{name}{sign}{value}"),
                    });
                    written.push(format!("{scheme} {}", listed.collect::<Vec<_>>().join(comma)).trim().to_owned());
                    expected.push(Offer {
                        scheme: scheme.clone(),
                        parameters: parameters.iter().map(|(name, value, ..)| (name.clone(), value.clone())).collect(),
                    });
                }
                texts.push(written.join(comma));
            }
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(read(&texts), expected);
        }

        #[test]
        fn no_field_stops_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200), times in 1..4usize) {
            let mut headers = HeaderMap::new();
            for _ in 0..times {
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    headers.append(header::WWW_AUTHENTICATE, value);
                }
            }
            offers(&headers);
        }

        #[test]
        fn no_sequence_of_marks_stops_the_reader(text in "[ ,;=\"\\\\aB\t]{0,60}") {
            read(&[&text]);
        }
    }
}
