//! Each shape with what stands on the wire as an input and as an output.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    num::NonZeroU32,
    time::Duration,
};

use serde_json::{Value, json};

use super::{travels, types::*};

fn point() -> Point {
    Point { x: 1, y: -2 }
}

#[test]
fn scalars_are_wrapped() {
    travels(7_u8, r#"{"v":7}"#, r#"{"result":7}"#);
    travels(u64::MAX, r#"{"v":18446744073709551615}"#, r#"{"result":18446744073709551615}"#);
    travels(-1_i64, r#"{"v":-1}"#, r#"{"result":-1}"#);
    travels(true, r#"{"v":true}"#, r#"{"result":true}"#);
    travels('é', r#"{"v":"é"}"#, r#"{"result":"é"}"#);
    travels("{\"v\":1}".to_owned(), r#"{"v":"{\"v\":1}"}"#, r#"{"result":"{\"v\":1}"}"#);
    travels(NonZeroU32::MIN, r#"{"v":1}"#, r#"{"result":1}"#);
    travels(Ipv4Addr::LOCALHOST, r#"{"v":"127.0.0.1"}"#, r#"{"result":"127.0.0.1"}"#);
    travels(Code { number: 7 }, r#"{"v":"C7"}"#, r#"{"result":"C7"}"#);
    travels(Colour::Green, r#"{"v":"Green"}"#, r#"{"result":"Green"}"#);
    travels(Meters(0.1), r#"{"v":0.1}"#, r#"{"result":0.1}"#);
}

#[test]
fn numbers_are_what_they_were_to_the_last_place() {
    let wide = "340282366920938463463374607431768211455";
    travels(u128::MAX, &format!(r#"{{"v":{wide}}}"#), &format!(r#"{{"result":{wide}}}"#));
    let least = "-170141183460469231731687303715884105728";
    travels(i128::MIN, &format!(r#"{{"v":{least}}}"#), &format!(r#"{{"result":{least}}}"#));
    for number in [117.63331139400017, 1.5777777777770001, 5e-324, f64::MAX, f64::MIN_POSITIVE, -0.0] {
        let text = serde_json::to_string(&number).unwrap();
        travels(number, &format!(r#"{{"v":{text}}}"#), &format!(r#"{{"result":{text}}}"#));
    }
    let text = format!(r#"{{"a":{wide},"b":{least},"c":18446744073709551615,"d":117.63331139400017}}"#);
    let all = Wide { a: u128::MAX, b: i128::MIN, c: u64::MAX, d: 117.63331139400017 };
    travels(all, &text, &text);
    travels(vec![u128::MAX], &format!(r#"{{"v":[{wide}]}}"#), &format!(r#"{{"result":[{wide}]}}"#));
}

/// Any JSON: an object as it is where it may be, everything else wrapped, and every number as it was written.
#[test]
fn json_that_is_passed_on_keeps_its_text() {
    let json = |text: &str| crate::Json::parse(text).unwrap();
    for number in ["123456789012345678901234567890", "1.0", "1.10", "1E5", "-0"] {
        travels(json(number), &format!(r#"{{"v":{number}}}"#), &format!(r#"{{"result":{number}}}"#));
        let object = format!(r#"{{"a":[{number}]}}"#);
        travels(json(&object), &format!(r#"{{"v":{object}}}"#), &object);
        travels(
            vec![json(number)],
            &format!(r#"{{"v":[{number}]}}"#),
            &format!(r#"{{"result":[{number}]}}"#),
        );
    }
    travels(json("null"), r#"{"v":null}"#, "null");
    // The checker of this test reads no such number.
    assert_eq!(serde_json::to_string(&json("[1e400]")).unwrap(), "[1e400]");
}

#[test]
fn lists_and_tuples_are_wrapped() {
    travels(vec![point()], r#"{"v":[{"x":1,"y":-2}]}"#, r#"{"result":[{"x":1,"y":-2}]}"#);
    travels(Vec::<u8>::new(), r#"{"v":[]}"#, r#"{"result":[]}"#);
    travels(b"ab".to_vec(), r#"{"v":[97,98]}"#, r#"{"result":[97,98]}"#);
    travels([1_u8, 2], r#"{"v":[1,2]}"#, r#"{"result":[1,2]}"#);
    travels((1_u8, "a".to_owned()), r#"{"v":[1,"a"]}"#, r#"{"result":[1,"a"]}"#);
    travels(Pair(1, "a".into()), r#"{"v":[1,"a"]}"#, r#"{"result":[1,"a"]}"#);
    travels(BTreeSet::from([1, 2]), r#"{"v":[1,2]}"#, r#"{"result":[1,2]}"#);
    travels(Transparent { inner: vec![] }, r#"{"v":[]}"#, r#"{"result":[]}"#);
}

/// Always objects: as they are.
#[track_caller]
fn as_it_is<T: super::Travels>(value: T, text: &str) {
    travels(value, text, text);
}

#[test]
fn structs_and_maps_are_as_they_are() {
    as_it_is(point(), r#"{"x":1,"y":-2}"#);
    as_it_is(Box::new(point()), r#"{"x":1,"y":-2}"#);
    as_it_is(Place(point()), r#"{"x":1,"y":-2}"#);
    as_it_is(OnlyV { v: 1 }, r#"{"v":1}"#);
    as_it_is(OnlyResult { result: 1 }, r#"{"result":1}"#);
    as_it_is(Renamed { of_type: "a".into(), other_name: 1 }, r#"{"type":"a","otherName":1}"#);
    as_it_is(Defaulted { times: 0, note: None, secret: 0 }, r#"{"times":0}"#);
    as_it_is(Defaulted { times: 2, note: Some("n".into()), secret: 0 }, r#"{"times":2,"note":"n"}"#);
    let rest = BTreeMap::from([("more".to_owned(), json!([1]))]);
    as_it_is(Flat { name: "n".into(), point: point(), rest }, r#"{"name":"n","x":1,"y":-2,"more":[1]}"#);
    let kind = Adjacent::Number { n: 1 };
    as_it_is(FlatEnum { name: "n".into(), kind }, r#"{"name":"n","kind":"Number","data":{"n":1}}"#);
    as_it_is(Duration::from_millis(1500), r#"{"secs":1,"nanos":500000000}"#);
    as_it_is(BTreeMap::<String, u32>::new(), "{}");
    as_it_is(BTreeMap::from([("v".to_owned(), 1)]), r#"{"v":1}"#);
    as_it_is(BTreeMap::from([("result".to_owned(), json!({"result": 1}))]), r#"{"result":{"result":1}}"#);
    as_it_is(BTreeMap::from([(7_u32, "a".to_owned())]), r#"{"7":"a"}"#);
    let leaf = Tree { name: "b".into(), children: vec![] };
    let tree = Tree { name: "a".into(), children: vec![leaf] };
    as_it_is(tree.clone(), r#"{"name":"a","children":[{"name":"b","children":[]}]}"#);
    let text = r#"[{"name":"a","children":[{"name":"b","children":[]}]}]"#;
    travels(vec![tree], &format!(r#"{{"v":{text}}}"#), &format!(r#"{{"result":{text}}}"#));
}

#[test]
fn enums_whose_variants_are_all_objects_are_as_they_are() {
    as_it_is(Command::Go { to: point() }, r#"{"Go":{"to":{"x":1,"y":-2}}}"#);
    as_it_is(Command::Wait(1), r#"{"Wait":1}"#);
    as_it_is(Command::V(1), r#"{"V":1}"#);
    as_it_is(Command::Result(1), r#"{"result":1}"#);
    as_it_is(Internal::Empty, r#"{"kind":"Empty"}"#);
    as_it_is(Internal::Named { name: "n".into() }, r#"{"kind":"Named","name":"n"}"#);
    as_it_is(Internal::Point(point()), r#"{"kind":"Point","x":1,"y":-2}"#);
    as_it_is(Adjacent::Empty, r#"{"kind":"Empty"}"#);
    as_it_is(Adjacent::Bytes(vec![1]), r#"{"kind":"Bytes","data":[1]}"#);
    as_it_is(Objects::One { one: 1 }, r#"{"one":1}"#);
    as_it_is(Objects::Two { two: 1 }, r#"{"two":1}"#);
    as_it_is(Ok::<u32, String>(1), r#"{"Ok":1}"#);
}

#[test]
fn enums_that_are_sometimes_objects_are_always_wrapped_as_inputs() {
    travels(Action::Stop, r#"{"v":"stop"}"#, r#"{"result":"stop"}"#);
    travels(Action::Move { x: 1, y: -2 }, r#"{"v":{"move":{"x":1,"y":-2}}}"#, r#"{"move":{"x":1,"y":-2}}"#);
    travels(Action::Say("hi".into()), r#"{"v":{"say":"hi"}}"#, r#"{"say":"hi"}"#);
    travels(Action::Pair(1, 2), r#"{"v":{"pair":[1,2]}}"#, r#"{"pair":[1,2]}"#);
    travels(Action::V(1), r#"{"v":{"v":1}}"#, r#"{"v":1}"#);
    travels(Action::Result(1), r#"{"v":{"result":1}}"#, r#"{"result":{"result":1}}"#);
    travels(Untagged::Number(1), r#"{"v":1}"#, r#"{"result":1}"#);
    travels(Untagged::Text("a".into()), r#"{"v":"a"}"#, r#"{"result":"a"}"#);
    travels(Untagged::Both { n: 1, t: "a".into() }, r#"{"v":{"n":1,"t":"a"}}"#, r#"{"n":1,"t":"a"}"#);
    travels(Untagged::Nothing, r#"{"v":null}"#, "null");
    let (one, two) = (Box::new(Expression::Number(1)), Box::new(Expression::Nothing));
    travels(
        Expression::Sum(one, two),
        r#"{"v":{"Sum":[{"Number":1},"Nothing"]}}"#,
        r#"{"Sum":[{"Number":1},"Nothing"]}"#,
    );
}

#[test]
fn any_json_is_always_wrapped_as_an_input() {
    travels(Value::Null, r#"{"v":null}"#, "null");
    travels(json!(1), r#"{"v":1}"#, r#"{"result":1}"#);
    travels(json!([]), r#"{"v":[]}"#, r#"{"result":[]}"#);
    travels(json!({}), r#"{"v":{}}"#, "{}");
    travels(json!({"a": 1}), r#"{"v":{"a":1}}"#, r#"{"a":1}"#);
    travels(json!({"v": 1}), r#"{"v":{"v":1}}"#, r#"{"v":1}"#);
    travels(json!({"result": 1}), r#"{"v":{"result":1}}"#, r#"{"result":{"result":1}}"#);
    travels(json!({"result": 1, "more": 2}), r#"{"v":{"more":2,"result":1}}"#, r#"{"more":2,"result":1}"#);
    travels(Some(json!(1)), r#"{"v":1}"#, r#"{"result":1}"#);
}

#[test]
fn options_are_null_in_their_wrapper() {
    travels(Some(1_u32), r#"{"v":1}"#, r#"{"result":1}"#);
    travels(None::<u32>, r#"{"v":null}"#, r#"{"result":null}"#);
    // `Some(None)` is null in JSON, and so is `None`.
    travels(Some(Some(1_u32)), r#"{"v":1}"#, r#"{"result":1}"#);
    travels(None::<Option<u32>>, r#"{"v":null}"#, r#"{"result":null}"#);
    travels(Some(point()), r#"{"x":1,"y":-2}"#, r#"{"x":1,"y":-2}"#);
    travels(None::<Point>, r#"{"v":null}"#, "null");
    travels(Some(OnlyV { v: 1 }), r#"{"v":{"v":1}}"#, r#"{"v":1}"#);
    travels(Some(OnlyResult { result: 1 }), r#"{"result":1}"#, r#"{"result":1}"#);
    travels(Some(BTreeMap::<String, u32>::new()), "{}", "{}");
    travels(None::<BTreeMap<String, u32>>, r#"{"v":null}"#, "null");
    travels(Some(Internal::Empty), r#"{"kind":"Empty"}"#, r#"{"kind":"Empty"}"#);
    travels(None::<Internal>, r#"{"v":null}"#, "null");
    travels(Some(Action::Stop), r#"{"v":"stop"}"#, r#"{"result":"stop"}"#);
    travels(Some(Action::V(1)), r#"{"v":{"v":1}}"#, r#"{"v":1}"#);
    travels(None::<Action>, r#"{"v":null}"#, "null");
}

#[test]
fn nothing_is_null() {
    travels((), r#"{"v":null}"#, "null");
    travels(Unit, r#"{"v":null}"#, "null");
}
