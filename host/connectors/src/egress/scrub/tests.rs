use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn of(secrets: &[&str]) -> Scrubber {
    let mut scrubber = Scrubber::default();
    secrets.iter().for_each(|secret| scrubber.add(secret));
    scrubber
}

const AWKWARD: &str = "s3cr3t/+\"quoted\" <värde> & 'so'?\\😀";

#[test]
fn row_01_a_secret_is_found_in_each_of_its_forms() {
    let secret = "s3cr3t/+\"quoted\" värde?";
    let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let scrubber = of(&[secret]);
    for user in ["", "a", "ab", "abc", "user"] {
        for after in ["", "x", "xy"] {
            for secret in [secret, &form] {
                for text in [
                    STANDARD.encode(format!("{user}{secret}{after}")),
                    URL_SAFE.encode(format!("{user}{secret}{after}")),
                ] {
                    let scrubbed = scrubber.text(&text);
                    assert!(scrubbed.contains(REDACTED), "{user:?} {after:?}: {text}");
                }
            }
        }
    }
    let mut value = json!({
        "raw": format!("Bearer {secret}"), secret: 1,
        "nested": [{ "text": json!({ "authorization": secret }).to_string() }],
        "percent": form, "hex": hex::encode(secret),
        "harmless": "stays",
    });
    let count = scrubber.value(&mut value);
    let text = value.to_string();
    assert_eq!((count, text.matches(REDACTED).count()), (5, 5), "{text}");
    assert!(!text.contains("s3cr3t") && text.contains("stays"), "{text}");
}

fn percent(text: &str, kept: &str, space: &str, upper: bool) -> String {
    let byte = |byte: u8| match char::from(byte) {
        ' ' => space.to_owned(),
        character if byte.is_ascii_alphanumeric() || kept.contains(character) => character.to_string(),
        _ if upper => format!("%{byte:02X}"),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(byte).collect()
}

#[test]
fn row_01_a_secret_is_found_as_other_software_writes_it() {
    let scrubber = of(&[AWKWARD]);
    let json = |text: &str| serde_json::to_string(text).expect("is written");
    // As Python's json.dumps and PHP's json_encode do it.
    let ascii = |text: &str| {
        let units = |character: char| character.encode_utf16(&mut [0; 2]).to_vec();
        let escape = |character: char| match character.is_ascii() {
            true => character.to_string(),
            false => units(character).into_iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        };
        json(text).chars().map(escape).collect::<String>()
    };
    let php = |text: &str| ascii(text).replace('/', "\\/");
    let go = |text: &str| json(text).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let html = |quote: &str, apostrophe: &str| {
        let text = AWKWARD.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        text.replace('"', quote).replace('\'', apostrophe)
    };
    let mixed = |text: String| {
        let digit =
            |(at, letter): (usize, char)| if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter };
        text.chars().enumerate().map(digit).collect::<String>()
    };
    let once = percent(AWKWARD, "-._~", "%20", true);
    for text in [
        json(AWKWARD),
        ascii(AWKWARD),
        ascii(AWKWARD).replace("\\ud83d", "\\uD83D"),
        php(AWKWARD),
        json(AWKWARD).replace('/', "\\/"),
        go(AWKWARD),
        go(AWKWARD).replace("\\u003c", "\\u003C"),
        json(&json(AWKWARD)),
        json(&json(AWKWARD).replace('/', "\\/")),
        json(&ascii(AWKWARD)),
        html("&quot;", "&#x27;"),
        html("&quot;", "&#039;"),
        html("&#34;", "&#39;"),
        html("\"", "'"),
        once.clone(),
        once.replace("%2F", "%2f"),
        percent(AWKWARD, "-._~!*'()", "%20", false),
        percent(AWKWARD, "*-._", "+", true),
        percent(&once, "-._~", "", true),
        percent(&once, "-._~", "", false),
        hex::encode(AWKWARD),
        hex::encode_upper(AWKWARD),
        mixed(hex::encode(AWKWARD)),
    ] {
        let scrubbed = scrubber.text(&text);
        assert_eq!(scrubbed.trim_matches(['"', '\\']), REDACTED, "{text}");
    }
    // The case of anything but digits of an escape counts.
    let other = AWKWARD.replace("s3", "S3");
    assert_eq!(scrubber.text(&other), other);
    let other = percent(&other, "-._~", "%20", true);
    assert_eq!(scrubber.text(&other), other);
}

#[test]
fn row_01_a_secret_that_is_a_number_is_found_where_numbers_are() {
    let scrubber = of(&["4929113387650021", "-1234.5678"]);
    let mut value =
        json!({ "account": 4_929_113_387_650_021_u64, "balance": -1234.5678, "other": 1_234_567_890 });
    assert!(!scrubber.is_clean_json(value.to_string().as_bytes()));
    assert_eq!(scrubber.value(&mut value), 2);
    assert_eq!(value, json!({ "account": REDACTED, "balance": REDACTED, "other": 1_234_567_890 }));
}

#[test]
fn a_secret_that_was_replaced_is_still_found() {
    let replaced = |secret: &str, before: &Scrubber| {
        let mut scrubber = of(&[secret]);
        scrubber.remember(before);
        scrubber
    };
    let mut scrubber = replaced("token-number-0", &Scrubber::default());
    for number in 1..=GENERATIONS {
        scrubber = replaced(&format!("token-number-{number}"), &scrubber);
    }
    let text = scrubber.text("token-number-0 token-number-1 token-number-3").into_owned();
    assert_eq!(text, "[REDACTED] [REDACTED] [REDACTED]");
    let scrubber = replaced("token-number-4", &scrubber);
    assert_eq!(scrubber.text("token-number-0 token-number-4"), "token-number-0 [REDACTED]");
}

#[test]
fn a_secret_that_is_added_after_a_text_was_cleaned_is_found_as_well() {
    let mut scrubber = of(&["the-first-secret"]);
    assert_eq!(scrubber.text("a-second-secret"), "a-second-secret");
    scrubber.add("a-second-secret");
    assert_eq!(scrubber.text("the-first-secret a-second-secret"), "[REDACTED] [REDACTED]");
}

#[test]
fn row_20_a_short_secret_is_no_oracle() {
    let scrubber = of(&["1234567", ""]);
    assert_eq!(scrubber.text("1234567"), "1234567");
    assert!(scrubber.is_clean_json(b"[\"1234567\", 1234567]"));
    assert_eq!(scrubber.value(&mut json!(["1234567", 1_234_567])), 0);
}

#[test]
fn secrets_that_overlap_leave_no_part_behind() {
    let scrubber = of(&["abcdefghij", "efghijklmnop", "fghijklm"]);
    assert_eq!(scrubber.text("<abcdefghijklmnop>"), "<[REDACTED]>");
    assert_eq!(scrubber.text("<abcdefghijklm>"), "<[REDACTED]>");
    assert_eq!(scrubber.text("abcdefghijabcdefghij"), "[REDACTED][REDACTED]");
    assert_eq!(of(&["aaaaaaaa"]).text(&"a".repeat(100)), REDACTED);
    assert_eq!(scrubber.value(&mut json!("abcdefghijklmnop")), 1);
}

#[test]
fn no_escape_in_a_json_text_hides_a_secret() {
    let scrubber = of(&["top/secret-é😀"]);
    for text in [
        r#"{"a": "top/secret-é😀"}"#,
        r#"{"top\/secret-\u00e9\ud83d\uDE00": 1}"#,
        r#"["\n\u0074op\/secret-\u00E9\uD83D\ude00"]"#,
        r#"{"a": "{\"b\": \"top/secret-é😀\"}"}"#,
        r#"{"a": "{\"b\": \"top\\/secret-\\u00e9\\ud83d\\ude00\"}"}"#,
    ] {
        assert!(!scrubber.is_clean_json(text.as_bytes()), "{text}");
        let mut value: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(scrubber.value(&mut value), 1, "{text}");
    }
    for text in ["{}", r#"{"a": "top\\/secret", "\t\b\f\r\"": "\u00e9"}"#, ""] {
        assert!(scrubber.is_clean_json(text.as_bytes()), "{text}");
    }
    // It is not sure what they stand for.
    for text in [r#"["\ud83d"]"#, r#"["\ud83d\u0041"]"#, r#"["\x"]"#, r#"["\u00"#, r#"["\"#] {
        assert!(!scrubber.is_clean_json(text.as_bytes()), "{text}");
    }
}

#[test]
fn row_01_a_secret_is_found_at_every_place_of_a_long_text() {
    let secret = "tok-4f9a81c2e7d34b6095aa17c8";
    let scrubber = of(&[secret, "short-01"]);
    let length = 70 << 10;
    let text = "The quick brown fox. ".repeat(length / 21);
    assert!(matches!(scrubber.text(&text), Cow::Borrowed(_)));
    // Around the places at which it is begun to look, and at the ends.
    let quarter = text.len() / 4;
    let near = |at: usize| at.saturating_sub(40)..(at + 40).min(text.len());
    for at in (0..=4).flat_map(|part| near(part * quarter)).chain((0..text.len()).step_by(911)) {
        for secret in [secret, "short-01"] {
            let mut dirty = text.clone();
            dirty.insert_str(at, secret);
            let (cleaned, count) = scrubber.counted(&dirty);
            assert_eq!((count, cleaned.len()), (1, text.len() + REDACTED.len()), "at {at}");
        }
    }
}

/// Every place of every form, found by looking at each place for each form; those that overlap become one.
fn slow(scrubber: &Scrubber, text: &str) -> Vec<(usize, usize)> {
    let forms = || scrubber.all().flat_map(|known| &known.forms);
    let mut places: Vec<(usize, usize)> = (0..text.len())
        .flat_map(|start| forms().map(move |form| (start, form)))
        .filter(|(start, form)| form.begins(&text.as_bytes()[*start..]))
        .map(|(start, form)| (start, start + form.len()))
        .collect();
    places.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (start, end) in places {
        match merged.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        // Few letters, so that secrets overlap and contain each other.
        "[ab]{8,14}",
        "[abA%/]{8,12}",
        "[a-zA-Z0-9_-]{8,60}",
        "[ -~]{8,30}",
        "[0-9]{8,20}",
        "\\PC{3,20}",
        ".{8,20}",
    ]
}

/// A piece of a text: a form of a secret, whole or cut, in another case, or anything.
#[derive(Debug, Clone)]
enum Piece {
    Form(prop::sample::Index, prop::sample::Index),
    Cut(prop::sample::Index, prop::sample::Index, prop::sample::Index),
    Other(String),
}

fn piece() -> impl Strategy<Value = Piece> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), index()).prop_map(|(which, case)| Piece::Form(which, case)),
        (index(), index(), index()).prop_map(|(which, from, to)| Piece::Cut(which, from, to)),
        "[ab]{0,12}".prop_map(Piece::Other),
        "\\PC{0,12}".prop_map(Piece::Other),
    ]
}

fn text(scrubber: &Scrubber, pieces: &[Piece]) -> String {
    let forms: Vec<&Arc<Form>> = scrubber.all().flat_map(|known| &known.forms).collect();
    let form = |which: &prop::sample::Index| {
        let bytes = forms.get(which.index(forms.len().max(1))).map_or(&b"nothing"[..], |form| form.bytes());
        std::str::from_utf8(bytes).expect("forms are text")
    };
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Form(which, case) if case.index(3) == 0 => text.push_str(&form(which).to_uppercase()),
            Piece::Form(which, _) => text.push_str(form(which)),
            Piece::Cut(which, from, to) => {
                let form = form(which);
                let from = form.floor_char_boundary(from.index(form.len()));
                let to = form.floor_char_boundary(from + to.index(form.len() - from));
                text.push_str(&form[from..to]);
            }
            Piece::Other(other) => text.push_str(other),
        }
    }
    text
}

fn scrubber() -> impl Strategy<Value = Scrubber> {
    prop::collection::vec(prop::collection::vec(secret(), 0..4), 1..4).prop_map(|generations| {
        generations.iter().fold(Scrubber::default(), |before, secrets| {
            let mut scrubber = of(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
            scrubber.remember(&before);
            scrubber
        })
    })
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let forms = self.all().flat_map(|known| &known.forms);
        formatter.debug_list().entries(forms.map(|form| String::from_utf8_lossy(form.bytes()))).finish()
    }
}

proptest! {
    #[test]
    fn row_01_one_pass_finds_what_looking_everywhere_finds(
        scrubber in scrubber(), pieces in prop::collection::vec(piece(), 0..12)
    ) {
        let text = text(&scrubber, &pieces);
        let mut found = Vec::new();
        if let Some(matcher) = scrubber.matcher() {
            matcher.plain(text.as_bytes(), &mut found);
        }
        let found: Vec<_> = found.into_iter().map(|place| (place.start, place.end)).collect();
        prop_assert_eq!(&found, &slow(&scrubber, &text));
        let (cleaned, count) = scrubber.counted(&text);
        prop_assert!(count > 0 || found.is_empty());
        prop_assert_eq!(matches!(cleaned, Cow::Borrowed(_)), count == 0);
        let mut value = json!({ "a": [text.clone()] });
        prop_assert_eq!(scrubber.value(&mut value), count);
        prop_assert_eq!(value, json!({ "a": [&*cleaned] }));
    }

    #[test]
    fn row_01_a_secret_in_any_form_is_gone(
        scrubber in scrubber(), secret in secret(), before in "\\PC{0,20}", after in "\\PC{0,20}"
    ) {
        let mut scrubber = scrubber;
        scrubber.add(&secret);
        let json = serde_json::to_string(&secret).expect("is written");
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for form in [
            secret.clone(), json[1..json.len() - 1].to_owned(), form,
            percent(&secret, "-._~", "%20", true), percent(&secret, "-._~", "%20", false),
            hex::encode(&secret), hex::encode_upper(&secret),
        ] {
            let cleaned = scrubber.text(&format!("{before}{form}{after}")).into_owned();
            prop_assume!(secret.len() >= SHORTEST && !REDACTED.contains(&secret) && !form.contains(REDACTED));
            let hidden = cleaned.replace(REDACTED, "\0");
            prop_assert!(!hidden.contains(&form), "{} in {}", form, cleaned);
        }
    }

    #[test]
    fn a_json_text_that_is_clean_is_a_value_that_is_clean(
        scrubber in scrubber(), pieces in prop::collection::vec(piece(), 0..6), escape in any::<u64>()
    ) {
        let plain = text(&scrubber, &pieces);
        // Some of the characters are escaped that need not be.
        let escaped: String = plain.chars().enumerate().map(|(at, character)| match escape >> (at % 64) & 1 {
            1 => character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            _ => { let text = json!(character).to_string(); text[1..text.len() - 1].to_owned() }
        }).collect();
        let document = format!("{{\"{escaped}\": [\"{escaped}\", 1e7, -12345678]}}");
        let mut value: Value = serde_json::from_str(&document).expect("JSON");
        let before = value.clone();
        let is_clean = scrubber.is_clean_json(document.as_bytes());
        let count = scrubber.value(&mut value);
        prop_assert!(!is_clean || count == 0);
        prop_assert_eq!(count == 0, value == before);
    }
}

mod encoded;
mod fuzz;
