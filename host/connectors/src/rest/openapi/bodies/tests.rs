use serde_json::{Value, json};

use crate::rest::{
    Api, import,
    tests::{operation, prepare, refused},
};

fn api(content: Value) -> Api {
    let document = json!({ "openapi": "3.1.0", "paths": { "/a/{id}": { "post": {
        "operationId": "a", "requestBody": { "required": true, "content": content },
        "parameters": [{ "name": "content_type", "in": "query", "schema": { "type": "string" } }],
    }, "put": { "operationId": "b", "requestBody": { "content": content } } } } });
    import(document.to_string().as_bytes()).expect("a document")
}

/// The media type and the body that are sent; the arguments fit the schema.
fn sent(api: &Api, mut arguments: Value) -> (String, String) {
    arguments["id"] = 1.into();
    let operation = operation(api, "b");
    let validator = jsonschema::validator_for(&operation.input_schema()).expect("a schema");
    let problems: Vec<_> = validator.iter_errors(&arguments).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{arguments}: {problems:?}: {}", operation.input_schema());
    let (media, bytes) = prepare(operation, arguments).body.expect("a body");
    let media = media.to_str().expect("ASCII").split("; boundary").next().unwrap_or_default().to_owned();
    (media, String::from_utf8_lossy(&bytes).into_owned())
}

fn media(api: &Api, arguments: Value) -> String {
    sent(api, arguments).0
}

fn offered(api: &Api) -> Value {
    operation(api, "b").input_schema()["properties"]["content_type"]["enum"].clone()
}

#[test]
fn a_media_type_is_taken_by_what_its_schema_fits() {
    let (object, list) = (json!({ "type": "object" }), json!({ "type": "array" }));
    let (text, binary) = (json!({ "type": "string" }), json!({ "type": "string", "format": "binary" }));
    let patches = [
        "application/apply-patch+yaml",
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    ];
    let all = |schema: &Value, media: &[&str]| {
        Value::Object(media.iter().map(|media| ((*media).to_owned(), json!({ "schema": schema }))).collect())
    };
    let either = json!({ "oneOf": [object, list] });
    let of = |schema: &Value| json!({ "schema": schema });
    for (content, body, expected) in [
        (all(&object, &patches), json!({ "a": 1 }), "application/merge-patch+json"),
        (all(&list, &patches), json!([]), "application/json-patch+json"),
        (all(&either, &patches), json!({ "a": 1 }), "application/merge-patch+json"),
        (all(&object, &["application/json", "application/aaa+json"]), json!({}), "application/json"),
        (
            all(&object, &["application/octet-stream", "application/xml", "application/zzz+json"]),
            json!({}),
            "application/zzz+json",
        ),
        (
            all(&binary, &["application/gzip", "application/json", "application/octet-stream"]),
            json!("eA=="),
            "application/octet-stream",
        ),
        (all(&binary, &["*/*"]), json!("eA=="), "application/octet-stream"),
        (all(&object, &["*/*"]), json!({}), "application/json"),
        (all(&text, &["application/pdf", "text/plain"]), json!("x"), "text/plain"),
        (all(&binary, &["text/csv"]), json!("eA=="), "text/csv"),
        (json!({ "application/json": of(&object), "text/plain": of(&text) }), json!("x"), "text/plain"),
        (json!({ "application/json": of(&object), "text/plain": of(&text) }), json!({}), "application/json"),
        (
            json!({ "application/json": of(&object), "application/pdf": of(&binary) }),
            json!("eA=="),
            "application/pdf",
        ),
        (
            json!({ "application/json-patch+json": of(&list), "application/merge-patch+json": of(&object) }),
            json!([]),
            "application/json-patch+json",
        ),
        (json!({ "application/json": {}, "application/xml": {} }), json!({}), "application/json"),
        (json!({ "application/json": null }), json!({}), "application/json"),
    ] {
        assert_eq!(media(&api(content.clone()), json!({ "body": body })), expected, "{content}");
    }
}

#[test]
fn a_caller_may_choose_the_media_type() {
    let schema = json!({ "schema": { "type": "object" } });
    let patches = api(json!({
        "application/apply-patch+yaml": schema, "application/json-patch+json": schema,
        "application/merge-patch+json": schema, "application/strategic-merge-patch+json": schema,
    }));
    let expected = json!([
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml"
    ]);
    assert_eq!(offered(&patches), expected);
    for chosen in expected.as_array().expect("a list") {
        let (media, body) = sent(&patches, json!({ "content_type": chosen, "body": { "a": 1 } }));
        assert_eq!((&json!(media), body.as_str()), (chosen, "{\"a\":1}"));
    }
    let b = operation(&patches, "b");
    let (pointer, message) = refused(b, json!({ "id": 1, "body": {}, "content_type": "application/json" }));
    assert!(
        pointer == "/arguments/content_type" && message.contains("application/merge-patch+json"),
        "{pointer}: {message}"
    );
    // Grouped arguments choose as well.
    let grouped =
        json!({ "path": { "id": 1 }, "body": { "a": 1 }, "content_type": "application/apply-patch+yaml" });
    assert_eq!(prepare(b, grouped).body.expect("a body").0, "application/apply-patch+yaml");
    // Another parameter has the name.
    let a = operation(&patches, "a");
    assert!(a.input_schema()["properties"]["request_content_type"]["enum"].is_array());
    let both = json!({
        "id": 1, "content_type": "x", "request_content_type": "application/apply-patch+yaml", "body": {},
    });
    let prepared = prepare(a, both);
    assert_eq!(prepared.url.query(), Some("content_type=x"));
    assert_eq!(prepared.body.expect("a body").0, "application/apply-patch+yaml");
    // One type leaves nothing to choose, and neither do two words for one.
    assert_eq!(offered(&api(json!({ "application/json": schema }))), Value::Null);
    let words = json!({ "application/json": schema, "text/json": schema, "application/*": schema });
    assert_eq!(offered(&api(words)), Value::Null);
}

#[test]
fn files_make_parts_and_everything_else_stays_json() {
    let file = json!({ "type": "string", "format": "binary" });
    let both = api(json!({
        "application/json": { "schema": { "type": "object", "properties": {
            "url": { "type": "string" }, "mask": { "type": "object" },
        } } },
        "multipart/form-data": { "schema": { "type": "object", "properties": {
            "document": file, "mask": file, "title": { "type": "string" },
        } } },
    }));
    assert_eq!(offered(&both), json!(["application/json", "multipart/form-data"]));
    for (arguments, expected) in [
        (json!({ "url": "x" }), "application/json"),
        (json!({ "document": "eA==" }), "multipart/form-data"),
        (json!({ "document": { "data": "eA==", "filename": "x" }, "title": "t" }), "multipart/form-data"),
        (json!({ "document": "eA==", "more": 1 }), "multipart/form-data"),
        (json!({ "mask": { "data": "eA==", "filename": "x" } }), "multipart/form-data"),
        (json!({ "mask": { "a": 1 } }), "application/json"),
        (json!({ "title": "t" }), "multipart/form-data"),
        (json!({ "title": "t", "content_type": "application/json" }), "application/json"),
        (json!({ "more": 1 }), "application/json"),
    ] {
        let (media, body) = sent(&both, arguments.clone());
        assert_eq!(media, expected, "{arguments}: {body}");
        assert!(!body.contains("content_type"), "{body}");
    }
    // The same when the body is one argument.
    let whole = api(json!({
        "application/json": { "schema": { "type": "object", "minProperties": 1, "properties": { "url": {} } } },
        "multipart/form-data": { "schema": { "oneOf": [
            { "type": "object", "required": ["document"], "properties": { "document": file } },
            { "type": "object", "required": ["x"] },
        ] } },
    }));
    assert_eq!(media(&whole, json!({ "body": { "url": "x" } })), "application/json");
    let (media, body) = sent(&whole, json!({ "body": { "document": { "data": "eA==", "filename": "f" } } }));
    assert!(media == "multipart/form-data" && body.contains("filename=\"f\""), "{media}: {body}");
}

#[test]
fn a_range_of_media_types_wants_to_be_told_which() {
    let image = api(json!({ "image/*": { "schema": { "type": "string", "format": "binary" } } }));
    let given = json!({ "body": "eA==", "content_type": "image/png" });
    assert_eq!(sent(&image, given), ("image/png".into(), "x".into()));
    let b = operation(&image, "b");
    for wrong in [
        json!({ "id": 1, "body": "eA==" }),
        json!({ "id": 1, "body": "eA==", "content_type": "text/html" }),
        json!({ "id": 1, "body": "eA==", "content_type": "image/png; a=\r\nb" }),
    ] {
        assert_eq!(refused(b, wrong).0, "/arguments/content_type");
    }
    // A file may say it itself.
    for given in [
        json!({ "body": { "data": "eA==", "content_type": "image/webp" } }),
        json!({ "body": { "data": "data:image/webp;base64,eA==", "filename": "x.webp" } }),
    ] {
        assert_eq!(sent(&image, given), ("image/webp".into(), "x".into()));
    }
    let wrong = json!({ "id": 1, "body": { "data": "eA==", "content_type": "text/html" } });
    assert_eq!(refused(b, wrong).0, "/arguments/content_type");
}

#[test]
fn a_body_that_cannot_be_written_costs_the_operation_when_it_must_be_there() {
    for (body, reason) in [
        (json!({ "$ref": "#/gone" }), "its body is described nowhere: there is no #/gone"),
        (json!({ "$ref": "other.yaml" }), "its body is described in another file (other.yaml)"),
        (json!([]), "its body is a list"),
        (json!({ "required": true }), "no media type is named for it"),
        (json!({ "content": { "multipart/mixed": {} } }), "its body is written as multipart/mixed"),
        (
            json!({ "content": { "application/json": { "$ref": "#/gone" } } }),
            "its body as application/json is described nowhere",
        ),
    ] {
        let document = json!({ "openapi": "3.1.0", "paths": {
            "/a": { "post": { "requestBody": body } }, "/b": { "get": {} },
            "/c": { "post": { "requestBody": { "content": {} } } }, "/d": { "post": { "requestBody": null } },
        } });
        let api = import(document.to_string().as_bytes()).expect("a document");
        assert!(api.skipped.len() == 1 && api.skipped[0].reason.contains(reason), "{:?}", api.skipped);
        let is_noted =
            |note: &crate::rest::Note| note.place == "POST /c" && note.reason.contains("no media type");
        assert!(api.notes.iter().any(is_noted), "{:?}", api.notes);
        assert_eq!(api.operations.len(), 3);
    }
}

#[test]
fn media_types_that_take_anything_are_chosen_by_what_is_given() {
    const PATCH: &str = "application/json-patch+json";
    const MERGE: &str = "application/merge-patch+json";
    let object = json!({ "type": "object" });
    for schema in [
        json!({}),
        json!({ "schema": {} }),
        json!({ "schema": true }),
        json!({ "schema": { "description": "any" } }),
        json!({ "schema": { "type": ["object", "array"] } }),
        json!({ "schema": { "oneOf": [object, { "type": "array" }] } }),
        json!({ "schema": { "$ref": "#/nowhere" } }),
    ] {
        let both = api(json!({ PATCH: schema, MERGE: schema }));
        for (body, expected) in [
            (json!([{ "op": "remove", "path": "/a" }]), PATCH),
            (json!([]), PATCH),
            (json!({ "a": null }), MERGE),
            (json!({}), MERGE),
        ] {
            assert_eq!(media(&both, json!({ "body": body })), expected, "{schema}: {body}");
            for chosen in [PATCH, MERGE] {
                let given = json!({ "body": body, "content_type": chosen });
                assert_eq!(media(&both, given), chosen, "the caller's word counts");
            }
        }
        let more = api(json!({
            PATCH: schema, MERGE: schema, "application/json": schema, "application/x-www-form-urlencoded": schema,
            "text/plain": schema,
        }));
        assert_eq!(media(&more, json!({ "body": [1] })), "application/json");
        let no_json =
            api(json!({ PATCH: schema, "application/x-www-form-urlencoded": schema, "text/plain": {} }));
        for (body, expected) in [
            (json!([1]), PATCH),
            (json!({ "a": 1 }), "application/x-www-form-urlencoded"),
            (json!("a"), "text/plain"),
        ] {
            assert_eq!(media(&no_json, json!({ "body": body })), expected, "{schema}: {body}");
        }
    }
    // What was stored when lists and objects were not told apart is read so as well.
    let api = api(json!({ PATCH: {}, MERGE: {} }));
    assert!(serde_json::to_string(operation(&api, "b")).expect("JSON").contains("\"kinds\":63"));
}

#[test]
fn a_media_type_is_chosen_by_its_own_schema() {
    let kind = |kind: &str, field: &str| json!({ "schema": { "$ref": format!("#/components/schemas/{kind}"), "x-field": field } });
    let schema = |kind: &str| json!({ "type": "object", "required": ["kind"], "properties": { "kind": { "enum": [kind] }, "n": {} } });
    let document = |open: bool| {
        let mut schemas = json!({ "V1": schema("one"), "V2": schema("two") });
        if open {
            schemas["V1"]["minProperties"] = json!(1);
        }
        let content = json!({ "application/vnd.a.v1+json": kind("V1", "a"), "application/vnd.a.v2+json": kind("V2", "b") });
        let document = json!({ "openapi": "3.1.0", "components": { "schemas": schemas }, "paths": { "/a/{id}": { "put": {
            "operationId": "b", "requestBody": { "required": true, "content": content },
        } } } });
        import(document.to_string().as_bytes()).expect("a document")
    };
    for (api, wrap) in [(document(false), false), (document(true), true)] {
        for (value, expected) in [("one", "application/vnd.a.v1+json"), ("two", "application/vnd.a.v2+json")]
        {
            let body = json!({ "kind": value, "n": 1 });
            assert_eq!(media(&api, if wrap { json!({ "body": body }) } else { body }), expected);
        }
    }
}

#[test]
fn a_file_beside_json_is_sent_as_bytes() {
    let file = json!({ "type": "string", "format": "binary" });
    let object = |image: &Value, more: Value| json!({ "schema": { "type": "object", "properties": { "image": image, "more": more } } });
    for json_image in [
        json!({}),
        json!({ "type": "object" }),
        json!({ "type": "string", "format": "uri" }),
        json!({ "properties": { "url": {} } }),
    ] {
        let both = api(json!({
            "application/json": object(&json_image, json!({})), "multipart/form-data": object(&file, json!({})),
        }));
        for image in [
            json!({ "data": "aGVsbG8=" }),
            json!({ "data": "aGVsbG8=", "filename": "a.png" }),
            json!({ "data": "aGVsbG8=", "content_type": "image/png" }),
        ] {
            let (media, body) = sent(&both, json!({ "image": image, "more": 1 }));
            assert!(
                media == "multipart/form-data" && body.contains("hello"),
                "{json_image}: {image}: {body}"
            );
            let (media, _) = sent(&both, json!({ "image": image, "content_type": "multipart/form-data" }));
            assert_eq!(media, "multipart/form-data");
        }
    }
    // An object that has a field of this name is no file.
    let own = json!({ "type": "object", "properties": { "data": { "type": "string" } } });
    let both = api(json!({
        "application/json": object(&own, json!({})), "multipart/form-data": object(&file, json!({})),
    }));
    assert_eq!(sent(&both, json!({ "image": { "data": "aGVsbG8=" } })).0, "application/json");
    // Neither is one whose data are none.
    let both = api(json!({
        "application/json": object(&json!({}), json!({})), "multipart/form-data": object(&file, json!({})),
    }));
    assert_eq!(sent(&both, json!({ "image": { "data": "not base64!" } })).0, "application/json");
    // A file for the whole body.
    let whole = api(
        json!({ "application/json": { "schema": { "type": "object" } }, "application/pdf": { "schema": file } }),
    );
    assert_eq!(
        sent(&whole, json!({ "body": { "data": "aGVsbG8=" } })),
        ("application/pdf".into(), "hello".into())
    );
    assert_eq!(sent(&whole, json!({ "body": { "a": "aGVsbG8=" } })).0, "application/json");
}

#[test]
fn a_file_that_is_the_whole_body_is_sent_as_its_bytes() {
    let binary = json!({ "type": "string", "format": "binary" });
    for (content, media) in [
        (json!({ "image/png": { "schema": binary } }), "image/png"),
        (json!({ "image/png": {} }), "image/png"),
        (
            json!({ "application/pdf": { "schema": { "contentMediaType": "application/pdf" } } }),
            "application/pdf",
        ),
        (
            json!({ "application/octet-stream": { "schema": { "type": "string" } } }),
            "application/octet-stream",
        ),
        (json!({ "application/zip": { "schema": { "$ref": "#/nowhere" } } }), "application/zip"),
        (json!({ "text/csv": { "schema": binary } }), "text/csv"),
        (json!({ "application/json": { "schema": binary } }), "application/json"),
        (
            json!({ "application/vnd.ms-excel; charset=binary": { "schema": binary } }),
            "application/vnd.ms-excel",
        ),
        (json!({ "*/*": { "schema": binary } }), "application/octet-stream"),
    ] {
        let api = api(content.clone());
        for body in
            [json!("aGVsbG8="), json!({ "data": "aGVsbG8=" }), json!({ "data": "aGVsbG8", "filename": "x" })]
        {
            let (is, bytes) = sent(&api, json!({ "body": body }));
            assert_eq!((is.split(';').next(), bytes.as_str()), (Some(media), "hello"), "{content}: {body}");
        }
        for (wrong, place) in [
            (json!({ "data": "%" }), "/arguments/body/data"),
            (json!("%"), "/arguments/body"),
            (json!({ "a": 1 }), "/arguments/body"),
        ] {
            assert_eq!(
                refused(operation(&api, "b"), json!({ "id": 1, "body": wrong })).0,
                place,
                "{content}"
            );
        }
    }
    // A file says which of several it is, and nothing that the document does not take.
    let two = api(json!({ "image/png": { "schema": binary }, "image/jpeg": { "schema": binary } }));
    for kind in ["image/png", "image/jpeg", "IMAGE/JPEG"] {
        let given = json!({ "body": { "data": "eA==", "content_type": kind } });
        assert_eq!(sent(&two, given).0, kind.to_ascii_lowercase());
    }
    let (place, message) = refused(
        operation(&two, "b"),
        json!({ "id": 1, "body": { "data": "eA==", "content_type": "text/html" } }),
    );
    assert!(
        place == "/arguments/body/content_type" && message.contains("image/jpeg, image/png"),
        "{place}: {message}"
    );
}

#[test]
fn operations_that_were_stored_before_are_read() {
    let old = json!({
        "media": "multipart/form-data", "format": { "multipart": { "files": ["a"] } }, "required": true,
        "given": { "whole": "body" },
    });
    let body: crate::rest::Body = serde_json::from_value(old.clone()).expect("a body");
    assert_eq!(serde_json::to_value(body).expect("JSON"), old);
}
