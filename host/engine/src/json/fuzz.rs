use airlock_fuzz::{Fuzz, Judged, Verdict, promised};
use proptest::prelude::*;

use super::{
    tests::{all_read_alike, document},
    *,
};

/// Any bytes are one document to everybody, or refused with the place.
fn judged(bytes: &[u8]) -> Judged {
    let checked = check_bytes(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return match checked {
            Ok(_) => Err("bytes that are no text are taken for a document".into()),
            Err(error) => Ok(Verdict::Refused(error.to_string())),
        };
    };
    let json = match (Json::parse(text), checked) {
        (Ok(json), Ok(names)) => (json, names),
        (Err(error), Err(same)) => {
            let told = error.to_string();
            promised!(told == same.to_string(), "two reasons: {told} and {same}");
            promised!(told.contains("line "), "no place: {told}");
            return Ok(Verdict::Refused(told));
        }
        (parsed, checked) => return Err(format!("{parsed:?} and {checked:?}")),
    };
    let (json, names) = json;
    all_read_alike(&json)?;
    promised!(check(json.as_str()).is_ok_and(|names| names == Names::Once), "it has a name twice: {json:?}");
    promised!(
        Json::parse(json.as_str()).is_ok_and(|again| again.as_str() == json.as_str()),
        "it changes again"
    );
    match names {
        Names::Once => {
            promised!(json.as_str() == text, "it is not passed on as it was sent");
            Ok(Verdict::Used)
        }
        Names::Twice => Ok(Verdict::LeftOut("a name stands twice in one object: the last one counts".into())),
    }
}

#[test]
fn fuzz_any_text_is_the_same_document_to_everybody_or_refused_with_its_place() {
    Fuzz::new("json", env!("CARGO_MANIFEST_DIR"))
        .grammar(|| document().prop_map(String::into_bytes))
        .words([
            "$serde_json::private::RawValue",
            "\\u0024serde_json::private::Number",
            "1e308",
            "\\u0061",
            "\"a\":",
        ])
        .run(judged);
}
