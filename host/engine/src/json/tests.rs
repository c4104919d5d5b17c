use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Texts of documents, valid and nearly so, with everything in them that readers read differently.
pub(super) fn document() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just(r#""a""#.to_owned()),
        Just(r#""b""#.to_owned()),
        Just(r#""\u0061""#.to_owned()),
        Just(r#""$serde_json::private::RawValue""#.to_owned()),
        Just(r#""\u0024serde_json::private::RawValue""#.to_owned()),
        Just(r#""$serde_json::private::Number""#.to_owned()),
        Just(r#""$serde_json::private::""#.to_owned()),
        Just(r#""serde_json::private::RawValue""#.to_owned()),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:e}")),
        Just("1e999".to_owned()),
        Just("-1e999".to_owned()),
        Just("-0".to_owned()),
        Just("01".to_owned()),
        Just("123456789012345678901234567890".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""\udc00\ud800""#.to_owned()),
        Just(r#""\ud83d\ude00""#.to_owned()),
        Just(r#""[1]""#.to_owned()),
        Just(r#""\"1\"""#.to_owned()),
        ".{0,6}".prop_map(|text| Value::from(text).to_string()),
    ];
    leaf.prop_recursive(6, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,"))),
            prop::collection::vec((name.clone(), inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("{name} :{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// What a reader that knows nothing of private names sees: the guest's.
fn as_a_guest_reads(text: &str) -> Option<Value> {
    value(text).ok()
}

/// That a document is the same to a guest, in every way in which the host looks at it, and on its way between them.
pub(super) fn all_read_alike(json: &Json) -> Result<(), String> {
    let guest = as_a_guest_reads(json.as_str()).ok_or("what is taken is JSON to everybody")?;
    let told = |what: &'static str| move |error: serde_json::Error| format!("{what}: {error}");
    let written = serde_json::to_string(json).map_err(told("written"))?;
    let stored = postcard::to_stdvec(json).map_err(|error| format!("stored: {error}"))?;
    let again: Json = postcard::from_bytes(&stored).map_err(|error| format!("read back: {error}"))?;
    for (way, seen) in [
        ("the tree", json.value()),
        ("serde_json", serde_json::from_str(json.as_str()).map_err(told("serde_json"))?),
        ("as a type", json.to::<Value>().map_err(told("as a type"))?),
        ("as a part", serde_json::to_value(json).map_err(told("as a part"))?),
        ("in a part", json!({ "in": json })["in"].take()),
        ("written", as_a_guest_reads(&written).ok_or("what is written is JSON to everybody")?),
        (
            "written and read",
            serde_json::from_str::<Json>(&written).map_err(told("written and read"))?.value(),
        ),
        ("stored", again.value()),
        ("from the tree", Json::from(guest.clone()).value()),
        ("from a value", Json::from_value(&guest).map_err(told("from a value"))?.value()),
    ] {
        if seen != guest {
            return Err(format!("{way}: {seen} and not {guest}"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a20_host_and_guest_see_the_same_document_or_none(text in document()) {
        let Ok(json) = Json::parse(text.as_str()) else { return Ok(()) };
        all_read_alike(&json).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a20_a_tree_of_whatever_origin_becomes_a_document_that_all_read_alike(text in document()) {
        let Some(tree) = as_a_guest_reads(&text) else { return Ok(()) };
        let json = Json::from(tree);
        prop_assert!(check(json.as_str()).is_ok());
        prop_assert_eq!(serde_json::from_str::<Value>(json.as_str()).expect("is JSON"), json.value());
    }
}

#[test]
fn a20_text_that_only_looks_valid_is_refused_with_its_place() {
    let deep = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    for (text, what) in [
        (r#"{"a":"\ud800"}"#.to_owned(), "hex escape"),
        ("[1e999]".into(), "range"),
        (deep(200), "recursion"),
        (r#"[{"x":1,"$serde_json::private::RawValue":"1"}]"#.into(), "private"),
        (r#"{"\u0024serde_json::private::Number":"1"}"#.into(), "private"),
        ("1 2".into(), "trailing"),
        ("".into(), "EOF"),
        ("\u{feff}1".into(), "expected value"),
    ] {
        let error = Json::parse(text.as_str()).expect_err(&text).to_string();
        assert!(error.contains(what) && error.contains("line 1"), "{text}: {error}");
    }
    assert!(Json::parse(deep(120)).is_ok());
}

#[test]
fn a20_of_two_members_with_one_name_the_last_counts_for_everybody() {
    let json = Json::parse(r#"{"a":1,"b":{"c":1,"\u0063":2},"a":3}"#).expect("is JSON");
    assert_eq!(json.value(), json!({ "a": 3, "b": { "c": 2 } }));
    assert_eq!(json.as_str().matches(r#""a""#).count(), 1, "{json:?}");
    assert_eq!(json.as_str().matches("c").count(), 1);
    // Anything else is passed on as it was sent.
    let text = r#" {"b" : 1.0, "a":12345678901234567890123} "#;
    assert_eq!(Json::parse(text).expect("is JSON").as_str(), text);
}

#[test]
fn a20_texts_within_texts_do_not_start_parsers_within_parsers() {
    // Each level starts a parser with a limit of its own in serde_json: 16 levels of 120 are 2,000 frames deep.
    let mut text = format!("{}0{}", "[".repeat(120), "]".repeat(120));
    for _ in 0..12 {
        let inner = Value::from(text.as_str()).to_string();
        text = "[".repeat(118);
        write!(text, r#"{{"$serde_json::private::RawValue":{inner}}}"#).expect("is written");
        text.push_str(&"]".repeat(118));
    }
    std::thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(move || {
            let error = Json::parse(text.as_str()).expect_err("is refused").to_string();
            assert!(error.contains("private"), "{error}");
            // A record of before the check is read as a guest reads it.
            assert!(value(&text).expect("is JSON").is_array());
        })
        .expect("a thread")
        .join()
        .expect("its stack is enough");
}
