use serde_json::{Value, json};

use crate::rest::{
    Api, import,
    security::WayKind,
    tests::{operation, prepare, refused},
};

/// An API whose operation `a` has these parameters, and another one without any.
fn api(parameters: Value) -> Api {
    let document = json!({ "openapi": "3.1.0", "security": [{ "sid": [] }], "paths": {
        "/a/{id}": { "get": { "operationId": "a", "parameters": parameters } }, "/b": { "get": { "operationId": "b" } },
    }, "components": { "securitySchemes": { "sid": { "type": "apiKey", "in": "cookie", "name": "sid" } } } });
    import(document.to_string().as_bytes()).expect("a document")
}

#[test]
fn a_parameter_that_cannot_be_sent_costs_the_operation_when_it_must_be_there() {
    for (parameter, reason) in [
        (json!({ "name": "lang", "in": "cookie" }), "'lang' is a cookie, which callers cannot set"),
        (json!({ "name": "q", "in": "query", "style": "tabs" }), "'q' has the style 'tabs'"),
        (json!({ "name": "q", "in": "query", "style": 7 }), "'q' has a style that is a number"),
        (json!({ "name": "q", "in": "query", "explode": 7 }), "does not say whether it explodes"),
        (json!({ "name": "q", "in": "query", "content": { "text/csv": {} } }), "'q' is written as text/csv"),
        (json!({ "name": "q", "in": "body" }), "'q' stands in 'body', which is not served"),
        (json!({ "name": "q", "in": 7 }), "'q' does not say where it stands"),
        (json!({ "in": "query" }), "one of its parameters has no name"),
        (json!({ "name": "X-Forwarded-For", "in": "header" }), "set by the host alone"),
        (json!({ "name": "Cookie", "in": "header" }), "set by the host alone"),
        (json!({ "name": "a b", "in": "header" }), "has a name that is none"),
    ] {
        let optional = api(json!([parameter]));
        assert!(optional.skipped.is_empty(), "{:?}", optional.skipped);
        let note = optional.notes.iter().find(|note| note.reason.contains(reason)).expect(reason);
        assert!(note.place == "GET /a/{id}" && note.reason.ends_with("it is left out"), "{note:?}");
        assert_eq!(operation(&optional, "a").input_schema()["required"], json!(["id"]));
        for yes in [json!(true), json!("true")] {
            let mut parameter = parameter.clone();
            parameter["required"] = yes;
            let required = api(json!([parameter]));
            assert_eq!(required.skipped.len(), 1, "{parameter}");
            assert!(required.skipped[0].reason.contains(reason), "{:?}", required.skipped);
            assert!(required.notes.iter().all(|note| note.place != "GET /a/{id}"), "{:?}", required.notes);
        }
    }
}

#[test]
fn a_parameter_that_cannot_be_found_costs_the_operation() {
    for (parameters, reason) in [
        (json!([{ "$ref": "#/gone" }]), "one of its parameters is described nowhere: there is no #/gone"),
        (json!([{ "$ref": "p.yaml#/x" }]), "one of its parameters is described in another file (p.yaml)"),
        (json!({ "$ref": "p.yaml" }), "the list of its parameters is described in another file (p.yaml)"),
        (json!("limit"), "its parameters are no list but a text"),
    ] {
        let api = api(parameters);
        assert!(api.skipped.len() == 1 && api.skipped[0].reason == reason, "{:?}", api.skipped);
        assert_eq!(api.operations.len(), 1);
    }
}

#[test]
fn odd_parameters_are_read_as_they_are_meant() {
    for (parameters, query) in [
        (json!([{ "name": 7, "in": "query" }]), "7=x"),
        (json!([{ "name": true, "in": "Query" }]), "true=x"),
        (json!({ "q": { "in": "query" } }), "q=x"),
        (json!({ "first": { "name": "q", "in": "query", "required": null } }), "q=x"),
        (
            json!([null, { "name": "q", "in": "query", "schema": null, "style": null, "explode": "true" }]),
            "q=x",
        ),
        (json!([{ "name": "id" }, { "name": "q", "in": "query" }]), "q=x"),
    ] {
        let api = api(parameters);
        let name = query.split('=').next().unwrap_or_default();
        let prepared = prepare(operation(&api, "a"), json!({ "id": 1, name: "x" }));
        assert_eq!(prepared.url.query(), Some(query));
    }
    let none = api(json!(null));
    assert_eq!(refused(operation(&none, "a"), json!({ "id": 1, "q": 1 })).0, "/arguments/q");
}

#[test]
fn row_07_a_cookie_that_authenticates_is_the_credentials() {
    let keys = |api: &Api| -> Vec<String> {
        let keys = api.ways.iter().filter_map(|way| match &way.kind {
            WayKind::Keys(keys) => Some(keys),
            _ => None,
        });
        keys.flatten().map(|key| format!("{:?} {}", key.place, key.name)).collect()
    };
    // It is declared, and a parameter as well.
    let declared = api(json!([{ "name": "sid", "in": "cookie", "required": true }]));
    assert_eq!(keys(&declared), ["Cookie sid"]);
    let a = operation(&declared, "a");
    assert!(a.requires_auth && a.input_schema()["properties"].get("sid").is_none());
    assert_eq!(refused(a, json!({ "id": 1, "sid": "mine" })).0, "/arguments/sid");
    // Its name gives it away: it goes together with the other.
    let both = api(json!([{ "name": "auth_token", "in": "cookie", "required": true }]));
    assert_eq!(keys(&both), ["Cookie sid", "Cookie auth_token"]);
    let prepared = prepare(operation(&both, "a"), json!({ "id": 1 }));
    assert!(prepared.headers.iter().all(|(name, _)| name != "cookie"));
}

#[test]
fn an_operation_for_which_there_can_be_no_credential_is_left_out() {
    let of = |security: Value| {
        let document = json!({ "openapi": "3.1.0", "paths": {
            "/a": { "get": { "security": security } }, "/b": { "get": {} },
        }, "components": { "securitySchemes": {
            "tls": { "type": "mutualTLS" }, "digest": { "type": "http", "scheme": "digest" },
            "token": { "type": "http", "scheme": "bearer" },
        } } });
        import(document.to_string().as_bytes()).expect("a document")
    };
    for (security, reason) in [
        (json!([{ "tls": [] }]), "it wants a client certificate (mutualTLS), which is not served"),
        (json!([{ "token": [], "tls": [] }]), "it wants a client certificate"),
        (json!([{ "digest": [] }, { "tls": [] }]), "it wants HTTP digest"),
    ] {
        let api = of(security);
        assert!(api.skipped.len() == 1 && api.skipped[0].reason.contains(reason), "{:?}", api.skipped);
    }
    for security in [json!([{ "tls": [] }, { "token": [] }]), json!([{ "tls": [] }, {}]), json!([])] {
        let api = of(security);
        assert!(api.skipped.is_empty(), "{:?}", api.skipped);
        assert!(api.notes.iter().any(|note| note.reason.contains("mutualTLS")), "{:?}", api.notes);
    }
}
