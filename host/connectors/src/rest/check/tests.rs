use serde_json::json;

use super::*;
use crate::rest::{Api, import, tests::arguments};

fn api(operations: Value) -> Api {
    import(json!({ "openapi": "3.1.0", "paths": operations }).to_string().as_bytes()).expect("a document")
}

fn with_body(media: &str, schema: Value) -> Api {
    let content = json!({ media: { "schema": schema } });
    api(
        json!({ "/a": { "post": { "operationId": "a", "requestBody": { "required": true, "content": content } } } }),
    )
}

fn with_parameters(parameters: Value) -> Api {
    api(json!({ "/a/{id}": { "get": { "operationId": "a", "parameters": parameters } } }))
}

fn check(api: &Api, given: Value) -> Result<(), (String, String)> {
    match Checks::default().check_blocking(&api.operations[0], &arguments(given)) {
        Ok(()) => Ok(()),
        Err(ConnectorsError::Invalid { pointer, message }) => Err((pointer, message)),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn what_travels_as_text_may_be_given_as_text_or_as_what_it_says() {
    let one = |schema: Value| with_parameters(json!([{ "name": "q", "in": "query", "schema": schema }]));
    for (schema, good, bad) in [
        (json!({ "type": "integer" }), json!([1, "1", "-5"]), json!(["a", true, "", "1x"])),
        (json!({ "type": "string" }), json!(["a", 1, true]), json!([{ "a": 1 }])),
        (json!({ "type": "boolean" }), json!([true, "true"]), json!(["yes", 1])),
        (json!({ "enum": [1, 2] }), json!([1, "1"]), json!([3, "3"])),
        (json!({ "enum": ["1", "2"] }), json!([1, "1"]), json!([3])),
        (json!({ "type": "string", "enum": ["true"] }), json!([true, "true"]), json!([false, "TRUE"])),
        (json!({ "type": "integer", "maximum": 5 }), json!(["5"]), json!(["6", 6])),
        (json!({ "type": "string", "pattern": "^[0-9]{5}$" }), json!([12345, "12345"]), json!([1234])),
        (
            json!({ "type": "array", "items": { "type": "integer" } }),
            json!([[1, "2"], 1, "1"]),
            json!([["a"], "a"]),
        ),
        (json!({ "type": "array", "items": { "type": "string" } }), json!([[1, "2"], "a", 1]), json!([[{}]])),
        (
            json!({ "anyOf": [{ "type": "integer" }, { "enum": ["all"] }] }),
            json!(["5", 5, "all"]),
            json!(["none"]),
        ),
        (
            json!({ "type": "object", "properties": { "a": { "type": "integer" }, "b": { "type": "string" } } }),
            json!([{ "a": "1", "b": 2 }]),
            json!([{ "a": "x" }]),
        ),
    ] {
        let api = one(schema.clone());
        for value in good.as_array().expect("a list") {
            assert_eq!(check(&api, json!({ "id": 1, "q": value })), Ok(()), "{schema}: {value}");
        }
        for value in bad.as_array().expect("a list") {
            let refused = check(&api, json!({ "id": 1, "q": value })).expect_err("is refused");
            assert!(refused.0.starts_with("/arguments/q"), "{schema}: {value}: {refused:?}");
        }
    }
}

#[test]
fn lists_that_are_written_as_one_text_may_be_given_so() {
    let list = json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2 });
    let api = with_parameters(json!([
        { "name": "id", "in": "path", "required": true, "schema": { "type": "string" } },
        { "name": "joined", "in": "query", "explode": false, "schema": list },
        { "name": "X-List", "in": "header", "schema": list },
        { "name": "apart", "in": "query", "schema": list },
        { "name": "json", "in": "query", "content": { "application/json": { "schema": list } } },
    ]));
    for good in [
        json!({ "id": 7, "joined": "1,2" }),
        json!({ "id": [1, 2], "X-List": "1,2" }),
        json!({ "id": "x", "apart": ["1", 2], "joined": null }),
        json!({ "path": { "id": 7 }, "query": { "json": [1, 2] } }),
    ] {
        assert_eq!(check(&api, good.clone()), Ok(()), "{good}");
    }
    for (bad, place) in [
        (json!({ "id": "x", "apart": "1,2" }), "/arguments/apart"),
        (json!({ "id": "x", "joined": "1,a" }), "/arguments/joined"),
        (json!({ "id": "x", "json": ["1", "2"] }), "/arguments/json/0"),
        (json!({ "id": null }), "/arguments"),
    ] {
        let refused = check(&api, bad.clone()).expect_err("is refused");
        assert!(refused.0.starts_with(place), "{bad}: {refused:?}");
    }
}

#[test]
fn fields_of_forms_are_text_and_those_of_json_are_not() {
    let fields = json!({ "type": "object", "required": ["n"], "properties": {
        "n": { "type": "integer" }, "deep": { "type": "object", "properties": { "m": { "type": "integer" } } },
    } });
    for media in ["application/x-www-form-urlencoded", "multipart/form-data"] {
        let api = with_body(media, fields.clone());
        assert_eq!(check(&api, json!({ "n": "1", "deep": { "m": "2" } })), Ok(()));
        assert!(check(&api, json!({ "n": "x" })).is_err());
    }
    let json = with_body("application/json", fields);
    assert_eq!(check(&json, json!({ "n": 1, "deep": { "m": 2 } })), Ok(()));
    assert!(check(&json, json!({ "n": "1" })).is_err() && check(&json, json!({ "n": null })).is_err());
}

#[test]
fn one_file_and_a_list_of_it_are_the_same() {
    let file = json!({ "type": "string", "format": "binary" });
    let list = json!({ "type": "array", "items": file });
    let fields =
        json!({ "type": "object", "properties": { "one": file, "many": list }, "required": ["many"] });
    let either = json!({ "oneOf": [fields, { "type": "object", "required": ["other"] }] });
    for (schema, is_whole) in [(fields, false), (either, true)] {
        let api = with_body("multipart/form-data", schema);
        let wrap = |value: Value| if is_whole { json!({ "body": value }) } else { value };
        for one in [json!("eA=="), json!({ "data": "eA==" })] {
            for given in [
                json!({ "many": one }),
                json!({ "many": [one] }),
                json!({ "many": [one, one], "one": [one] }),
            ] {
                assert_eq!(check(&api, wrap(given.clone())), Ok(()), "{given}");
            }
            let two = wrap(json!({ "many": one, "one": [one, one] }));
            assert!(check(&api, two).is_err() || is_whole);
        }
        let sent = crate::rest::tests::prepare(&api.operations[0], wrap(json!({ "many": "eA==" })));
        assert!(String::from_utf8_lossy(&sent.body.expect("a body").1).contains("filename=\"many\""));
    }
}

#[test]
fn what_is_checked_is_how_the_body_is_written() {
    let schema = json!({ "schema": { "type": "object", "required": ["n"], "properties": {
        "n": { "type": "integer" }, "list": { "type": "array", "items": { "type": "integer" } },
    } } });
    let content = json!({ "application/json": schema, "application/x-www-form-urlencoded": schema });
    let api = api(
        json!({ "/a": { "post": { "operationId": "a", "requestBody": { "required": true, "content": content } } } }),
    );
    let form = "application/x-www-form-urlencoded";
    assert_eq!(check(&api, json!({ "n": "1", "list": "2", "content_type": form })), Ok(()));
    assert!(check(&api, json!({ "n": "x", "content_type": form })).is_err());
    assert!(check(&api, json!({ "n": "1" })).is_err(), "it is JSON");
}

#[test]
fn a_refusal_says_where_why_and_who_refused_and_repeats_no_value() {
    let step = |kind: &str, field: &str| {
        json!({ "type": "object", "required": ["type", field], "properties": {
        "type": { "enum": [kind] }, field: { "type": "integer" },
    } })
    };
    let steps = json!({ "type": "array", "items": { "oneOf": [step("fetch", "url"), step("sort", "by")] } });
    let api = with_body("application/json", json!({ "type": "object", "properties": { "steps": steps } }));
    for (value, place, reason) in [
        (json!([{ "type": "fetch", "url": "hunter2" }]), "/arguments/steps/0/url", "not of type \"integer\""),
        (json!([{ "type": "sort" }]), "/arguments/steps/0", "\"by\" is a required property"),
        (json!([{ "type": "hunter2" }]), "/arguments/steps/0/type", "expect: \"fetch\", \"sort\""),
        (json!(["hunter2"]), "/arguments/steps/0", "expect: type object"),
        (json!("hunter2"), "/arguments/steps", "not of type \"array\""),
    ] {
        let (at, message) = check(&api, json!({ "steps": value })).expect_err("is refused");
        assert_eq!(at, place, "{message}");
        assert!(
            message.contains(reason) && message.contains("airlock checked this by itself and sent nothing"),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
    let closed = with_parameters(json!([{ "name": "limit", "in": "query" }]));
    let (at, message) = check(&closed, json!({ "id": 1, "limt": 1 })).expect_err("is refused");
    assert_eq!(at, "/arguments/limt");
    assert!(message.contains("it has id, limit"), "{message}");
}

#[test]
fn a_schema_that_is_too_long_to_be_shown_is_checked_whole() {
    let long = |kind: &str| {
        let fields: Map<_, _> = (0..300)
            .map(|number| {
                (format!("{kind}_{number:03}"), json!({ "type": "string", "description": "d".repeat(150) }))
            })
            .chain([
                ("type".to_owned(), json!({ "enum": [kind] })),
                ("last".to_owned(), json!({ "type": "integer" })),
            ])
            .collect();
        json!({ "type": "object", "required": ["type"], "properties": fields })
    };
    let kinds = ["fetch", "filter", "join", "sort", "group", "write"];
    let schemas: Map<_, _> = kinds.iter().map(|kind| ((*kind).to_owned(), long(kind))).collect();
    let one_of: Vec<_> =
        kinds.iter().map(|kind| json!({ "$ref": format!("#/components/schemas/{kind}") })).collect();
    for word in ["oneOf", "anyOf"] {
        let step = json!({ word: one_of });
        let body = json!({ "type": "object", "properties": { "steps": { "type": "array", "items": step } } });
        let document = json!({ "openapi": "3.0.3", "components": { "schemas": schemas }, "paths": { "/a": { "post": {
            "operationId": "a", "requestBody": { "required": true, "content": { "application/json": { "schema": body } } },
        } } } });
        let api = import(document.to_string().as_bytes()).expect("a document");
        assert!(api.operations[0].input_schema.get().len() < 33_000);
        for kind in kinds {
            assert_eq!(
                check(&api, json!({ "steps": [{ "type": kind, "last": 1 }] })),
                Ok(()),
                "{word}: {kind}"
            );
            let refused =
                check(&api, json!({ "steps": [{ "type": kind, "last": "x" }] })).expect_err("is refused");
            assert_eq!(refused.0, "/arguments/steps/0/last", "{word}: {kind}");
        }
        assert!(check(&api, json!({ "steps": [{ "type": "nope" }] })).is_err());
        // What is shown refuses nothing that the whole takes.
        let shown = crate::rest::schema::compile(&api.operations[0].input_schema()).expect("a schema");
        assert!(kinds.iter().all(|kind| shown.is_valid(&json!({ "steps": [{ "type": kind, "last": 1 }] }))));
    }
}
