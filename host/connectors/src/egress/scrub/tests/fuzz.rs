//! The target of fuzzing: a secret in encodings, and a text in which there is none.

use std::time::Duration;

use airlock_fuzz::{Fuzz, Judged, Verdict, promised};

use super::{
    encoded::{ALL, Encoding, is_gone, planted},
    *,
};

/// What may stand around a form of a secret without becoming a part of it.
const AROUND: &[u8] = b" .,:;/\"'<>{}-";

/// Secrets of which no input has any.
const OTHERS: [&str; 3] = ["tok-4f9a81c2e7d34b6095aa17c8", "7301948826150437", "word of pass/12"];

fn around(text: &str) -> String {
    let fits = |char: &char| {
        u8::try_from(*char).is_ok_and(|byte| byte.is_ascii_alphanumeric() || AROUND.contains(&byte))
    };
    text.chars().filter(fits).take(200).collect()
}

/// Four lines: encodings by letter, the innermost first; a secret; what stands before and behind it.
fn judged(input: &[u8]) -> Judged {
    let text = String::from_utf8_lossy(input);
    no_other_is_found(&text)?;
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (encodings, secret, before, after) = (line(), line(), around(line()), around(line()));
    let encodings: Vec<Encoding> = encodings
        .bytes()
        .take(3)
        .map(|letter| ALL[usize::from(letter.wrapping_sub(b'a')) % ALL.len()])
        .collect();
    // A line break that is encoded twice may itself be broken: what is in lines is promised two deep.
    let has_lines = encodings.iter().any(|encoding| matches!(encoding, Encoding::Base64Wrapped { .. }));
    if has_lines && encodings.len() > 2 {
        return Ok(Verdict::LeftOut("this is more than is promised of what is in lines".into()));
    }
    let is_secret =
        (SHORTEST..=60).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_secret || REDACTED.contains(secret) {
        return Ok(Verdict::LeftOut("this is nothing that is promised to be found".into()));
    }
    let Some(form) = planted(secret, &encodings) else {
        return Ok(Verdict::LeftOut("this cannot be encoded so".into()));
    };
    let scrubber = of(&[secret]);
    is_gone(&scrubber, &before, &form, &after).map_err(|error| format!("{encodings:?}: {error}"))?;
    Ok(Verdict::Used)
}

/// A text without secrets stays, or there is so much to undo in it that it is taken out whole.
fn no_other_is_found(text: &str) -> Result<(), String> {
    let scrubber = of(&OTHERS);
    let (cleaned, count) = scrubber.counted(text);
    promised!(count == 0 || cleaned == REDACTED, "{count} found in what holds none: {cleaned}");
    let mut value = json!({ text: [text, 1, -2.5, null] });
    let before = value.clone();
    let is_clean = scrubber.is_clean_json(value.to_string().as_bytes());
    let found = scrubber.value(&mut value);
    promised!((found == 0) == (value == before), "{found} found, and it is {value}");
    promised!(!is_clean || found == 0, "a text is clean and its value is not");
    promised!((found == 0) == (count == 0), "{found} in the value and {count} in the text");
    Ok(())
}

/// Encodings, secrets and what is around them.
fn planting() -> impl Strategy<Value = Vec<u8>> {
    let around = || "[a-zA-Z0-9 .,:;/\"'<>{}-]{0,40}";
    ("[a-s]{0,3}", "[!-~]{8,60}", around(), around()).prop_map(|(encodings, secret, before, after)| {
        format!("{encodings}\n{secret}\n{before}\n{after}").into_bytes()
    })
}

#[test]
fn fuzz_no_secret_survives_in_any_encoding_and_what_is_none_stays() {
    Fuzz::new("scrubber", env!("CARGO_MANIFEST_DIR"))
        .grammar(planting)
        .words([
            "QUFB",
            "\\u005cu005c",
            "&#x",
            "&amp;",
            "%25",
            "=\r\n",
            "=3D",
            "\\x",
            "%u00",
            "3D",
            "AAAA",
            "\0",
            "sk_live_",
            "eyJ",
        ])
        .time(Duration::from_millis(500))
        .run(judged);
}
