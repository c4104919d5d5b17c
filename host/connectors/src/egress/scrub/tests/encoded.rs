//! No secret survives any composition of the encodings that are undone.

use super::*;

/// What servers do to a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Encoding {
    Json,
    JsonSlashes,
    JsonAllUnicode,
    Html,
    HtmlDecimal,
    HtmlHexadecimal,
    Percent,
    PercentAll { is_upper: bool },
    Base64,
    Base64Url,
    Base64Wrapped { column: usize },
    Utf16 { is_big: bool, has_mark: bool },
    Hexadecimal,
    QuotedPrintable,
}

pub(super) const ALL: [Encoding; 19] = [
    Encoding::Json,
    Encoding::JsonSlashes,
    Encoding::JsonAllUnicode,
    Encoding::Html,
    Encoding::HtmlDecimal,
    Encoding::HtmlHexadecimal,
    Encoding::Percent,
    Encoding::PercentAll { is_upper: true },
    Encoding::PercentAll { is_upper: false },
    Encoding::Base64,
    Encoding::Base64Url,
    Encoding::Base64Wrapped { column: 76 },
    Encoding::Base64Wrapped { column: 64 },
    Encoding::Utf16 { is_big: true, has_mark: true },
    Encoding::Utf16 { is_big: false, has_mark: true },
    Encoding::Utf16 { is_big: true, has_mark: false },
    Encoding::Utf16 { is_big: false, has_mark: false },
    Encoding::Hexadecimal,
    Encoding::QuotedPrintable,
];

fn wrapped(text: &str, column: usize, end: &str) -> String {
    let lines: Vec<&str> =
        text.as_bytes().chunks(column).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    lines.join(end)
}

impl Encoding {
    /// None if this cannot be done to bytes that are no text.
    fn of(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let text = || std::str::from_utf8(bytes).ok();
        let all = |escape: &dyn Fn(char) -> String| Some(text()?.chars().map(escape).collect::<String>());
        let quoted = |text: &str| {
            let quoted = json!(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        let encoded = match self {
            Self::Json => quoted(text()?),
            Self::JsonSlashes => quoted(text()?).replace('/', "\\/"),
            Self::JsonAllUnicode => all(&|character| {
                character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            })?,
            Self::Html => all(&|character| match character {
                '&' => "&amp;".into(),
                '<' => "&lt;".into(),
                '>' => "&gt;".into(),
                '"' => "&quot;".into(),
                '\'' => "&#39;".into(),
                other => other.into(),
            })?,
            Self::HtmlDecimal => all(&|character| format!("&#{};", u32::from(character)))?,
            Self::HtmlHexadecimal => all(&|character| format!("&#x{:X};", u32::from(character)))?,
            Self::Percent => percent(text()?, "-._~", "%20", true),
            Self::PercentAll { is_upper: true } => bytes.iter().map(|byte| format!("%{byte:02X}")).collect(),
            Self::PercentAll { is_upper: false } => bytes.iter().map(|byte| format!("%{byte:02x}")).collect(),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Base64Url => URL_SAFE.encode(bytes),
            Self::Base64Wrapped { column } => wrapped(&STANDARD.encode(bytes), column, "\r\n"),
            Self::Utf16 { is_big, has_mark } => {
                let mark = if has_mark { "\u{feff}" } else { "" };
                let units = mark.encode_utf16().chain(text()?.encode_utf16());
                let order = |unit: u16| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() };
                return Some(units.flat_map(order).collect());
            }
            Self::Hexadecimal => hex::encode(bytes),
            Self::QuotedPrintable => {
                let escape = |&byte: &u8| match byte {
                    b'!'..=b'<' | b'>'..=b'~' | b' ' | b'\n' | b'\r' => char::from(byte).to_string(),
                    _ => format!("={byte:02X}"),
                };
                let written: Vec<String> = bytes.iter().map(escape).collect();
                written.chunks(70).map(<[String]>::concat).collect::<Vec<_>>().join("=\r\n")
            }
        };
        Some(encoded.into_bytes())
    }
}

/// The secret in these encodings, the first one innermost; bytes that are no text are what the API makes of them.
pub(super) fn planted(secret: &str, encodings: &[Encoding]) -> Option<String> {
    let encode = |bytes: Vec<u8>, encoding: &Encoding| encoding.of(&bytes);
    let bytes = encodings.iter().try_fold(secret.as_bytes().to_vec(), encode)?;
    Some(String::from_utf8(bytes).unwrap_or_else(|error| STANDARD.encode(error.into_bytes())))
}

/// What is left of a secret's encoded form: no more than the ends of an encoding, such as `==`. What stands around it may hold
/// the secret as well, and then less of that is left.
pub(super) fn is_gone(scrubber: &Scrubber, before: &str, form: &str, after: &str) -> Result<(), String> {
    let text = format!("{before}{form}{after}");
    let cleaned = scrubber.text(&text).into_owned();
    let bytes = |text: &str| text.replace(REDACTED, "").len();
    let around = [before, after].map(|around| bytes(&scrubber.text(around))).iter().sum();
    let left = bytes(&cleaned).saturating_sub(around);
    let is_gone = cleaned.contains(REDACTED) && left <= 80 && left <= form.len() / 2;
    // As the value that a JSON text has.
    let document = json!([text]).to_string();
    let is_noticed = !scrubber.is_clean_json(document.as_bytes());
    if is_gone && is_noticed { Ok(()) } else { Err(format!("{text:?} became {cleaned:?}")) }
}

const SECRETS: [&str; 7] = [
    "tok-4f9a81c2e7d34b6095aa17c8",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "p<a&s's\"w>or+d=/x%41",
    "4929113387650021",
    "pass word/12",
    "sk_live_51HG8aKeYkEyKeY",
    "schlüssel-😀-geheim",
];

#[test]
fn no_secret_survives_one_or_two_encodings() {
    for secret in SECRETS {
        let scrubber = of(&[secret]);
        for first in ALL {
            for encodings in [vec![first]].into_iter().chain(ALL.map(|second| vec![first, second])) {
                let Some(form) = planted(secret, &encodings) else { continue };
                for (before, after) in [("", ""), ("{\"a\": \"x ", "\"}"), ("abc", "xyz")] {
                    is_gone(&scrubber, before, &form, after)
                        .unwrap_or_else(|error| panic!("{secret} in {encodings:?}: {error}"));
                }
            }
        }
    }
}

#[test]
fn no_secret_survives_that_looks_like_an_escape_when_others_are_undone_around_it() {
    for secret in [
        ":&J`C;\"gPq=0F",
        "a-secret-that-ends-in==",
        "C:\\new-secret\\x41",
        "50%41 of a secret",
        "a &lt;secret&gt;",
    ] {
        let scrubber = of(&[secret]);
        for (first, second, third) in [
            (Encoding::JsonAllUnicode, Encoding::Json, Encoding::QuotedPrintable),
            (Encoding::JsonAllUnicode, Encoding::Html, Encoding::QuotedPrintable),
            (Encoding::HtmlDecimal, Encoding::Json, Encoding::PercentAll { is_upper: true }),
            (Encoding::JsonAllUnicode, Encoding::Html, Encoding::Percent),
        ] {
            let encodings = [first, second, third];
            let form = planted(secret, &encodings).expect("it can be encoded");
            for after in ["", "0F", "41;"] {
                is_gone(&scrubber, "before ", &form, after)
                    .unwrap_or_else(|error| panic!("{secret} in {encodings:?}: {error}"));
            }
        }
    }
}

#[test]
fn what_servers_of_a_corpus_do_leaves_no_secret() {
    for secret in SECRETS {
        let scrubber = of(&[secret, "another-secret-0123"]);
        let html = Encoding::Html.of(secret.as_bytes()).expect("text");
        let html = String::from_utf8(html).expect("text");
        for text in [
            // A secret that goes on in the next line.
            format!("{}\n{}", &secret[..3], &secret[3..]),
            format!("{}\r\n\t{}", &secret[..2], &secret[2..]),
            json!(format!("{}\n{}", &secret[..3], &secret[3..])).to_string(),
            // MIME, with something before it.
            wrapped(&STANDARD.encode(format!("{}{secret}", "prefix ".repeat(8))), 76, "\n"),
            json!(wrapped(&STANDARD.encode(format!("{}{secret}{secret}", "x".repeat(40))), 76, "\n"))
                .to_string(),
            format!("data:;base64,{}", STANDARD.encode(format!("<p>{html}</p>"))),
            // PHP under its default content type.
            json!({ "t": secret }).to_string().replace('/', "\\/"),
            // YAML, SQL, CSV.
            format!("t: '{}'", secret.replace('\'', "''")),
            format!("1,\"{}\",2", secret.replace('"', "\"\"")),
            // Without the ends that HTML does not need.
            secret.chars().map(|letter| format!("&#{:07}", u32::from(letter))).collect(),
            secret.chars().map(|letter| format!("\\u{{{:x}}}", u32::from(letter))).collect(),
            secret.bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
            secret.encode_utf16().map(|unit| format!("%u{unit:04X}")).collect(),
            secret.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"),
            secret.encode_utf16().flat_map(u16::to_le_bytes).map(char::from).collect::<String>(),
            // UTF-32, of which only ASCII is undone.
            STANDARD.encode(secret.bytes().flat_map(|byte| [0, 0, 0, byte]).collect::<Vec<_>>()),
        ] {
            let (cleaned, count) = scrubber.counted(&text);
            // Bytes of UTF-16 that were read as Latin-1 are not undone but for ASCII.
            let is_lost = (text.contains('\0') || text.starts_with("AAAA")) && !secret.is_ascii();
            assert!(count > 0 || is_lost, "{text:?} stays {cleaned:?}");
        }
    }
}

#[test]
fn what_may_be_looked_at_for_a_text_is_bounded() {
    let scrubber = of(&["a-secret-of-mine"]);
    // It is base64 of base64 of base64, wherever one begins to read.
    let text = "QUFB".repeat(1 << 14);
    assert!(scrubber.text(&text).len() <= text.len());
    let matcher = scrubber.matcher().expect("there is something to find");
    assert!(matcher.look(text.as_bytes(), None, 0, &mut 1_000, &mut Vec::new()).is_err());
    let nested = "\\\\u005cu005c".repeat(1 << 12);
    assert!(scrubber.text(&nested).len() <= nested.len());
}

#[test]
fn a_text_in_which_every_kind_of_escape_is_frequent_is_looked_through_and_stays() {
    let secret = "tok-4f9a81c2e7d34b6095aa17c8";
    let scrubber = of(&[secret]);
    let line = concat!(
        r#"<a href=3D\"https:\/\/api.example\/a%2Fb%41?x=3D%61&amp;y=3D&#65;&lt;b&gt;&quot;\u0041"#,
        "=\r\ntok-\r\n4f"
    );
    for bytes in [1 << 10, 60 << 10] {
        let text = line.repeat(bytes / line.len());
        assert!(matches!(scrubber.text(&text), Cow::Borrowed(_)), "{bytes} bytes");
        let dirty = format!("{text}{}{text}", secret.replace('-', "&#45;"));
        assert_eq!(scrubber.counted(&dirty).1, 1);
    }
}

proptest! {
    #[test]
    fn no_secret_survives_any_composition_of_encodings(
        secret in "[!-~]{8,60}",
        encodings in prop::collection::vec(prop::sample::select(ALL.to_vec()), 0..4),
        before in "[a-zA-Z0-9 .,:;/\"'<>{}-]{0,20}",
        after in "[ .,:;/\"'<>{}a-zA-Z-]{0,20}",
    ) {
        prop_assume!(!"[REDACTED]".contains(&secret));
        let Some(form) = planted(&secret, &encodings) else { return Ok(()) };
        let scrubber = of(&[&secret]);
        is_gone(&scrubber, &before, &form, &after).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_text_without_secrets_is_not_changed(
        encodings in prop::collection::vec(prop::sample::select(ALL.to_vec()), 0..4),
        text in "\\PC{0,200}",
    ) {
        let scrubber = of(&["tok-4f9a81c2e7d34b6095aa17c8", "4929113387650021", "pass word/12"]);
        let Some(text) = planted(&text, &encodings) else { return Ok(()) };
        prop_assert!(matches!(scrubber.text(&text), Cow::Borrowed(_)));
        let document = json!([text]);
        let mut value = document.clone();
        prop_assert_eq!(scrubber.value(&mut value), 0);
        prop_assert_eq!(value, document);
    }
}
