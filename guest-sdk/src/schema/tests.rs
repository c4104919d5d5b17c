use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Inner {
    count: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Order {
    name: String,
    inner: Vec<Inner>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Recursive {
    parts: Vec<Recursive>,
}

fn value(text: impl AsRef<str>) -> Value {
    serde_json::from_str(text.as_ref()).unwrap()
}

#[test]
fn a_struct_is_the_whole_input() {
    let schema = value(workflow_input::<Order>(Some("order")));
    assert_eq!(schema["properties"]["name"]["type"], "string");
    let order: Order = read_workflow_input(Some("order"), r#"{"name":"a","inner":[]}"#).unwrap();
    assert_eq!(order.name, "a");
}

#[test]
fn a_scalar_is_a_property_named_like_the_parameter() {
    let schema = value(workflow_input::<Vec<Inner>>(Some("items")));
    assert_eq!(schema["required"], json!(["items"]));
    assert_eq!(schema["properties"]["items"]["items"]["$ref"], "#/$defs/Inner");
    assert!(schema["$defs"]["Inner"].is_object());
    assert!(!workflow_input::<Vec<Recursive>>(Some("all")).contains("\"#\""), "the root is not the type");
    assert_eq!(read_workflow_input::<String>(Some("name"), r#"{"name":"a"}"#).unwrap(), "a");
    assert_eq!(read_workflow_input::<String>(Some("name"), r#""a""#).unwrap(), "a");
    assert_eq!(read_workflow_input::<Option<String>>(Some("name"), "{}").unwrap(), None);
    assert_eq!(value(workflow_input::<Option<String>>(Some("name"))).get("required"), None);
}

#[test]
fn no_parameter_is_an_empty_object() {
    assert_eq!(value(workflow_input::<()>(None))["additionalProperties"], false);
    read_workflow_input::<()>(None, "{}").unwrap();
    read_workflow_input::<()>(None, "null").unwrap();
    assert_eq!(read_workflow_input::<()>(None, r#"{"a":1}"#).unwrap_err().kind(), "InvalidInput");
}

#[test]
fn an_output_that_is_no_object_is_wrapped() {
    assert_eq!(write_workflow_output(&"hi".to_owned()).unwrap(), r#"{"result":"hi"}"#);
    assert_eq!(write_workflow_output(&()).unwrap(), "null");
    assert_eq!(write_workflow_output(&Inner { count: 1 }).unwrap(), r#"{"count":1}"#);
    assert_eq!(value(workflow_output::<String>().unwrap())["properties"]["result"]["type"], "string");
    assert_eq!(value(workflow_output::<Inner>().unwrap())["properties"]["count"]["type"], "integer");
    assert_eq!(workflow_output::<()>(), None);
    assert_eq!(value(workflow_output::<Value>().unwrap())["anyOf"][1]["required"], json!(["result"]));
}

#[test]
fn a_wrong_input_names_the_field() {
    let error = read_plain::<Order>(r#"{"name":"a","inner":[{"count":"x"}]}"#).unwrap_err();
    assert_eq!(error.kind(), "InvalidInput");
    assert_eq!(error.message(), r#"inner[0].count: invalid type: string "x", expected u32"#);
    assert_eq!(read_plain::<Order>("{}").unwrap_err().message(), "missing field `name`");
    assert!(read_plain::<Order>("{").unwrap_err().message().starts_with("the input is not JSON"));
    let error = read_workflow_input::<u32>(Some("n"), r#"{"n":"x"}"#).unwrap_err();
    assert_eq!(error.message(), r#"n: invalid type: string "x", expected u32"#);
    assert_eq!(
        read_workflow_input::<u32>(Some("n"), r#"{"m":1}"#).unwrap_err().message(),
        "unknown field `m`, expected `n`"
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    Stop,
    Result(u32),
    Move { x: i32 },
}

#[test]
fn an_enum_with_and_without_data_is_wrapped_as_an_input_whatever_it_is() {
    for (action, text) in [
        (Action::Stop, r#"{"a":"stop"}"#),
        (Action::Move { x: 1 }, r#"{"a":{"move":{"x":1}}}"#),
        (Action::Result(7), r#"{"a":{"result":7}}"#),
    ] {
        assert_eq!(write_workflow_input(Some("a"), &action).unwrap(), text);
        assert_eq!(read_workflow_input::<Action>(Some("a"), text).unwrap(), action);
    }
    assert_eq!(read_workflow_input::<Action>(Some("a"), r#""stop""#).unwrap(), Action::Stop);
}

#[test]
fn an_output_that_is_sometimes_an_object_can_be_told_from_its_wrapper() {
    for (action, text) in [
        (Action::Stop, r#"{"result":"stop"}"#),
        (Action::Move { x: 1 }, r#"{"move":{"x":1}}"#),
        (Action::Result(7), r#"{"result":{"result":7}}"#),
    ] {
        assert_eq!(write_workflow_output(&action).unwrap(), text);
        assert_eq!(read_workflow_output::<Action>(text).unwrap(), action);
        assert_eq!(read_any_output::<Action>(text).unwrap(), action);
    }
    assert_eq!(write_workflow_output(&Value::Null).unwrap(), "null");
    assert_eq!(write_workflow_output(&None::<u32>).unwrap(), r#"{"result":null}"#);
    assert_eq!(read_workflow_output::<Option<u32>>("null").unwrap(), None);
}

#[test]
fn an_optional_object_is_taken_bare_wrapped_and_not_at_all() {
    let read = |text| read_workflow_input::<Option<Inner>>(Some("inner"), text).unwrap();
    assert_eq!(read(r#"{"count":1}"#), Some(Inner { count: 1 }));
    assert_eq!(read(r#"{"inner":{"count":1}}"#), Some(Inner { count: 1 }));
    for nothing in ["{}", "null", r#"{"inner":null}"#] {
        assert_eq!(read(nothing), None, "{nothing}");
    }
    let write = |value: &Option<Inner>| write_workflow_input(Some("count"), value).unwrap();
    assert_eq!(write(&Some(Inner { count: 1 })), r#"{"count":{"count":1}}"#, "told from its wrapper");
    assert_eq!(write(&None), r#"{"count":null}"#);
    let wrong = read_workflow_input::<Option<Inner>>(Some("inner"), r#"{"count":"x"}"#).unwrap_err();
    assert!(wrong.message().starts_with("count: invalid type"), "{wrong}");
}

#[test]
fn numbers_beyond_64_bits_and_the_last_place_of_a_float_are_read_from_their_text() {
    let read = |text| read_workflow_input::<u128>(Some("n"), text).unwrap();
    assert_eq!(read(r#"{"n":340282366920938463463374607431768211455}"#), u128::MAX);
    assert_eq!(read("340282366920938463463374607431768211455"), u128::MAX);
    assert_eq!(
        read_workflow_input::<i128>(Some("n"), &format!("{{\"n\":{}}}", i128::MIN)).unwrap(),
        i128::MIN
    );
    assert_eq!(
        read_workflow_input::<f64>(Some("n"), r#"{"n":117.63331139400017}"#).unwrap().to_bits(),
        117.63331139400017_f64.to_bits()
    );
    assert_eq!(read_any_output::<u128>(&write_workflow_output(&u128::MAX).unwrap()).unwrap(), u128::MAX);
}

#[test]
fn a_next_run_takes_a_value_of_the_type_or_what_a_caller_would_send() {
    let next = |value: Value| next_input::<Action>(Some("a"), value.to_string());
    assert_eq!(next(json!("stop")).unwrap(), r#"{"a":"stop"}"#);
    assert_eq!(next(json!({"move": {"x": 1}})).unwrap(), r#"{"a":{"move":{"x":1}}}"#);
    assert_eq!(next(json!({"a": "stop"})).unwrap(), r#"{"a":"stop"}"#);
    assert!(next(json!({"fly": 1})).unwrap_err().message().starts_with("a: unknown variant `fly`"));
}

#[test]
fn a_wrong_member_of_a_wrapped_list_is_named() {
    let error = read_workflow_input::<Vec<Inner>>(Some("all"), r#"{"all":[{"count":"x"}]}"#).unwrap_err();
    assert_eq!(error.message(), r#"all[0].count: invalid type: string "x", expected u32"#);
}
