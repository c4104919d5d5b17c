//! What people report of tools that read OpenAPI documents, each in a few variations.

use serde_json::{Map, Value, json};

use crate::rest::{
    Api, Checks, import,
    tests::{arguments, operation, prepare},
};

fn api(operation: Value, components: Value) -> Api {
    let document = json!({ "openapi": "3.1.0", "paths": { "/a/{id}": { "post": operation } }, "components": components });
    import(document.to_string().as_bytes()).expect("a document")
}

/// The address after the path, and the body, of arguments that are checked as those of a call are.
fn called(api: &Api, mut given: Value) -> Result<(String, String), String> {
    given["id"] = given.get("id").cloned().unwrap_or_else(|| json!("x"));
    let own = &api.operations[0];
    let given = arguments(given);
    Checks::default().check_blocking(own, &given).map_err(|error| error.to_string())?;
    let base = crate::rest::tests::base();
    let prepared = own.request(&base, &given).map_err(|error| error.to_string())?;
    let path = prepared.url.as_str().strip_prefix("https://api.example/v1/a/").expect("the path").to_owned();
    let body = prepared.body.map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned());
    Ok((path, body.unwrap_or_default()))
}

fn query(parameter: Value, value: Value) -> Result<String, String> {
    let api = api(json!({ "parameters": [parameter] }), json!({}));
    assert!(api.skipped.is_empty(), "{:?}", api.skipped);
    let name = api.operations[0].parameters.iter().find(|parameter| parameter.argument != "id");
    let name = name.expect("a parameter").argument.clone();
    let (path, _) = called(&api, json!({ name: value }))?;
    Ok(path.strip_prefix('x').expect("the id").to_owned())
}

#[test]
fn query_parameters_are_written_as_their_document_says() {
    let list = json!({ "type": "array", "items": { "type": "string" } });
    let object = json!({ "type": "object", "additionalProperties": true });
    let of = |more: Value| {
        let mut parameter = json!({ "name": "q", "in": "query" });
        parameter.as_object_mut().expect("an object").extend(arguments(more));
        parameter
    };
    for (parameter, value, expected) in [
        (of(json!({ "allowReserved": true })), json!("a/b:c?d=e,f@g"), "?q=a/b:c?d=e,f@g"),
        (
            of(json!({ "allowReserved": "true" })),
            json!("a&b#c+d;e%f g'h"),
            "?q=a%26b%23c%2Bd%3Be%25f%20g%27h",
        ),
        (
            of(json!({ "allowReserved": true, "schema": list, "explode": false })),
            json!(["a,b", "c"]),
            "?q=a%2Cb,c",
        ),
        (of(json!({})), json!("a/b:c"), "?q=a%2Fb%3Ac"),
        (
            of(json!({ "style": "deepObject", "schema": object })),
            json!({ "a": [1, { "b": 2 }], "c d": "é" }),
            "?q%5Ba%5D%5B0%5D=1&q%5Ba%5D%5B1%5D%5Bb%5D=2&q%5Bc%20d%5D=%C3%A9",
        ),
        (of(json!({ "style": "deepObject", "explode": true, "schema": object })), json!({}), ""),
        (of(json!({ "name": "ids[]", "schema": list })), json!(["a", "b"]), "?ids%5B%5D=a&ids%5B%5D=b"),
        (of(json!({ "name": "page[size]" })), json!(5), "?page%5Bsize%5D=5"),
        (of(json!({ "name": "$filter" })), json!("a eq 'b'"), "?%24filter=a%20eq%20%27b%27"),
        (of(json!({ "explode": false, "schema": object })), json!({ "a": 1, "b": "x,y" }), "?q=a,1,b,x%2Cy"),
        (of(json!({ "style": "spaceDelimited", "schema": list })), json!(["a b", "c"]), "?q=a%20b%20c"),
        (
            of(json!({ "style": "pipeDelimited", "explode": true, "schema": list })),
            json!(["a", "b"]),
            "?q=a&q=b",
        ),
        (
            of(json!({ "content": { "application/json; charset=utf-8": { "schema": object } } })),
            json!({ "a": 1 }),
            "?q=%7B%22a%22%3A1%7D",
        ),
        (of(json!({ "schema": { "type": ["integer", "null"] } })), json!(null), ""),
        (of(json!({ "schema": { "type": "boolean" } })), json!(false), "?q=false"),
        (of(json!({ "schema": { "const": "v1" } })), json!("v1"), "?q=v1"),
        (of(json!({ "schema": { "type": "number" } })), json!(1e21), "?q=1e%2B21"),
        (
            of(json!({ "schema": { "type": "integer", "format": "int64" } })),
            json!(9_007_199_254_740_993_u64),
            "?q=9007199254740993",
        ),
        (of(json!({ "allowEmptyValue": true })), json!(""), "?q="),
    ] {
        assert_eq!(query(parameter.clone(), value.clone()).as_deref(), Ok(expected), "{parameter} {value}");
    }
}

#[test]
fn parts_of_a_path_may_be_any_text() {
    for (value, expected) in [
        ("a.b", "a.b"),
        ("..a", "..a"),
        ("feature/x", "feature%2Fx"),
        ("é 日", "%C3%A9%20%E6%97%A5"),
        ("100%", "100%25"),
        ("a+b", "a%2Bb"),
        ("user@example.com", "user%40example.com"),
    ] {
        let api = api(json!({}), json!({}));
        assert_eq!(called(&api, json!({ "id": value })).map(|sent| sent.0).as_deref(), Ok(expected));
    }
}

#[test]
fn an_optional_body_is_sent_when_it_is_given() {
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } } });
    for (body, given, expected) in [
        (json!({ "content": { "application/json": { "schema": schema } } }), json!({}), ""),
        (json!({ "content": { "application/json": { "schema": schema } } }), json!({ "a": 1 }), "{\"a\":1}"),
        (
            json!({ "required": "true", "content": { "application/json": { "schema": schema } } }),
            json!({}),
            "{}",
        ),
        (
            json!({ "required": false, "content": { "Application/JSON; Charset=UTF-8": { "schema": schema } } }),
            json!({ "a": 1 }),
            "{\"a\":1}",
        ),
        (
            json!({ "content": { "application/vnd.api+json": { "schema": schema } } }),
            json!({ "a": 1 }),
            "{\"a\":1}",
        ),
        (
            json!({ "content": { "application/json": { "schema": { "type": ["object", "null"], "properties": { "a": {} } } } } }),
            json!({ "a": null }),
            "{\"a\":null}",
        ),
        (
            json!({ "content": { "application/json": { "schema": { "type": "array", "prefixItems": [{ "const": 1 }], "items": { "type": "string" } } } } }),
            json!({ "body": [1, "b"] }),
            "[1,\"b\"]",
        ),
        (
            json!({ "content": { "application/json": { "schema": { "const": "x" } } } }),
            json!({ "body": "x" }),
            "\"x\"",
        ),
        (
            json!({ "content": { "application/json": { "schema": { "type": "boolean" } } } }),
            json!({ "body": false }),
            "false",
        ),
    ] {
        let api = api(json!({ "requestBody": body }), json!({}));
        assert_eq!(called(&api, given.clone()).map(|sent| sent.1).as_deref(), Ok(expected), "{body} {given}");
    }
    let list = json!({ "type": "array", "prefixItems": [{ "const": 1 }], "items": { "type": "string" } });
    let api =
        api(json!({ "requestBody": { "content": { "application/json": { "schema": list } } } }), json!({}));
    assert!(
        called(&api, json!({ "body": [2] })).is_err() && called(&api, json!({ "body": [1, 2] })).is_err()
    );
}

#[test]
fn lists_of_objects_in_forms_are_written_as_their_encoding_says() {
    let items = json!({ "type": "array", "items": { "type": "object", "properties": { "price": { "type": "string" } } } });
    let body = |encoding: Value| {
        json!({ "requestBody": { "content": { "application/x-www-form-urlencoded": {
            "schema": { "type": "object", "properties": { "items": items, "note": { "type": "string" } } }, "encoding": encoding,
        } } } })
    };
    let given = json!({ "items": [{ "price": "a" }, { "price": "b" }], "note": "x y" });
    for (encoding, expected) in [
        (json!({}), "items=%7B%22price%22%3A%22a%22%7D&items=%7B%22price%22%3A%22b%22%7D&note=x%20y"),
        (
            json!({ "items": { "style": "deepObject", "explode": true } }),
            "items%5B0%5D%5Bprice%5D=a&items%5B1%5D%5Bprice%5D=b&note=x%20y",
        ),
    ] {
        let api = api(body(encoding), json!({}));
        assert_eq!(called(&api, given.clone()).map(|sent| sent.1).as_deref(), Ok(expected));
    }
}

#[test]
fn schemas_that_were_written_to_stand_alone_are_read() {
    let item = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" }, "next": { "$ref": "#/$defs/Item" } } });
    let schema = json!({ "$defs": { "Item": item }, "type": "object", "properties": { "item": { "$ref": "#/$defs/Item" } } });
    let old = json!(
        serde_json::from_str::<Value>(&schema.to_string().replace("$defs", "definitions")).expect("JSON")
    );
    for schema in [schema, old] {
        let content = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Outer" } } });
        let inline = json!({ "application/json": { "schema": schema } });
        for content in [content, inline] {
            let api = api(
                json!({ "requestBody": { "content": content } }),
                json!({ "schemas": { "Outer": schema } }),
            );
            assert!(called(&api, json!({ "item": { "n": 1, "next": { "n": 2 } } })).is_ok());
            assert!(called(&api, json!({ "item": { "n": 1, "next": { "n": "x" } } })).is_err());
            assert!(called(&api, json!({ "item": {} })).is_err());
        }
    }
    // The document's own go first.
    let root = json!({ "openapi": "3.1.0", "$defs": { "A": { "type": "string" } }, "paths": { "/a/{id}": { "post": { "requestBody": {
        "content": { "application/json": { "schema": { "$defs": { "A": { "type": "integer" } }, "properties": { "a": { "$ref": "#/$defs/A" } } } } },
    } } } } });
    let api = import(root.to_string().as_bytes()).expect("a document");
    assert!(called(&api, json!({ "a": "x" })).is_ok() && called(&api, json!({ "a": 1 })).is_err());
}

#[test]
fn what_stands_beside_a_reference_counts_in_3_1() {
    let parameter = json!({ "$ref": "#/components/parameters/Q", "description": "mine" });
    let components = json!({ "parameters": { "Q": { "name": "q", "in": "query", "schema": { "$ref": "#/components/schemas/T", "maxLength": 2 } } }, "schemas": { "T": { "type": "string" } } });
    let api = api(json!({ "parameters": [parameter] }), components);
    assert!(called(&api, json!({ "q": "ab" })).is_ok() && called(&api, json!({ "q": "abc" })).is_err());
}

#[test]
fn path_items_of_the_components_are_operations_and_callbacks_and_webhooks_are_none() {
    let hook = json!({ "post": { "operationId": "hook" } });
    let document = json!({
        "openapi": "3.1.0", "webhooks": { "new": hook },
        "paths": {
            "/a": { "$ref": "#/components/pathItems/A" },
            "/b": { "get": { "operationId": "b", "callbacks": { "on": { "{$request.body#/url}": hook } } } },
        },
        "components": { "pathItems": { "A": { "get": { "operationId": "a" }, "parameters": [{ "name": "q", "in": "query" }] } }, "callbacks": { "C": { "x": hook } } },
    });
    let api = import(document.to_string().as_bytes()).expect("a document");
    let slugs: Vec<_> = api.operations.iter().map(|operation| operation.slug.as_str()).collect();
    assert_eq!((slugs, api.skipped.len()), (vec!["a", "b"], 0));
    assert_eq!(prepare(operation(&api, "a"), json!({ "q": 1 })).url.query(), Some("q=1"));
}

#[test]
fn what_an_operation_needs_is_one_of_its_alternatives() {
    let schemes = json!({ "securitySchemes": {
        "key": { "type": "apiKey", "in": "header", "name": "X-Key" }, "session": { "type": "apiKey", "in": "cookie", "name": "sid" },
        "oauth": { "type": "oauth2", "flows": { "clientCredentials": { "tokenUrl": "https://a.example/t", "scopes": { "r": "" } } } },
        "mutual": { "type": "mutualTLS" },
    } });
    for (security, needed) in [
        (json!([]), Some(false)),
        (json!([{}]), Some(false)),
        (json!([{}, { "key": [] }]), Some(false)),
        (json!([{ "key": [] }, {}]), Some(false)),
        (json!([{ "oauth": ["r"] }, { "key": [] }]), Some(true)),
        (json!([{ "mutual": [] }, { "session": [] }]), Some(true)),
        (json!([{ "mutual": [] }]), None),
        (json!([{ "mutual": [] }, {}]), Some(false)),
    ] {
        let document = json!({ "openapi": "3.1.0", "components": schemes, "paths": {
            "/a": { "get": { "security": security } }, "/b": { "get": { "security": [] } },
        } });
        let api = import(document.to_string().as_bytes()).expect("a document");
        let found = api.operations.iter().find(|operation| operation.slug == "get-a");
        assert_eq!(found.map(|operation| operation.requires_auth), needed, "{security}: {:?}", api.skipped);
    }
}

#[test]
fn answers_are_read_by_what_comes_and_described_by_what_is_said() {
    let schema = |kind: &str| json!({ "content": { "application/json": { "schema": { "type": "object", "title": kind } } } });
    for (responses, expected) in [
        (json!({ "default": schema("d") }), Some("d")),
        (json!({ "2XX": schema("x"), "default": schema("d"), "404": schema("e") }), Some("x")),
        (json!({ "201": schema("c"), "200": schema("o") }), Some("o")),
        (json!({ "204": { "content": { "application/json": {} } } }), None),
        (json!({ "404": schema("e") }), None),
        (
            json!({ "200": { "content": { "application/vnd.x+json; charset=utf-8": schema("v")["content"]["application/json"] } } }),
            Some("v"),
        ),
        (json!([]), None),
    ] {
        let api = api(json!({ "responses": responses }), json!({}));
        let title = api.operations[0].tool().pointer("/outputSchema/then/properties/data/title").cloned();
        assert_eq!(title, expected.map(Value::from), "{responses}");
    }
    let nothing = crate::egress::scrub::Scrubber::default();
    let api = api(json!({}), json!({}));
    for (media, body, expected) in [
        (Some("application/json"), &b""[..], json!(null)),
        (Some("application/json; charset=utf-8"), b"\xef\xbb\xbf{\"a\":1}", json!({ "a": 1 })),
        (Some("APPLICATION/PROBLEM+JSON"), b"[1]", json!([1])),
        (Some("application/json"), b"not", json!("not")),
        (None, b"{}", json!({})),
        (Some("text/plain"), b"\xef\xbb\xbfa", json!("a")),
    ] {
        let headers = media.map(|media| (http::header::CONTENT_TYPE, media.parse().expect("a header")));
        let answered =
            crate::rest::answer("c", &api.operations[0], 200, &headers.into_iter().collect(), body, &nothing);
        let data = answered.value.pointer("/metadata/mcp_meta/structuredContent/data").cloned();
        assert_eq!(data, Some(expected), "{media:?}");
    }
}

#[test]
fn names_of_any_kind_are_arguments() {
    let parameters = json!([
        { "name": "a.b", "in": "query" }, { "name": "naïve", "in": "query" }, { "name": "a/b~c", "in": "query", "schema": { "type": "integer" } },
        { "name": "", "in": "query" }, { "name": "type", "in": "query" }, { "name": "$ref", "in": "query" },
    ]);
    let api = api(json!({ "parameters": parameters }), json!({}));
    let given = json!({ "a.b": 1, "naïve": 2, "a/b~c": "3", "type": 4, "$ref": 5 });
    let (path, _) = called(&api, given).expect("a request");
    let query = url::Url::parse(&format!("https://a.example/{path}")).expect("an address");
    let names: Map<_, _> =
        query.query_pairs().map(|(name, value)| (name.into_owned(), json!(value))).collect();
    assert_eq!(
        Value::from(names),
        json!({ "a.b": "1", "naïve": "2", "a/b~c": "3", "type": "4", "$ref": "5" })
    );
}
