use serde_json::{Value, json};
use url::Url;

use super::super::import_for;
use crate::rest::{Api, tests::operation};

fn api(servers: &Value, own: &Value, at: Option<&str>, of_path: bool) -> Api {
    let mut item = json!({ "get": { "operationId": "own" } });
    match of_path {
        true => item["servers"] = own.clone(),
        false => item["get"]["servers"] = own.clone(),
    }
    let mut document =
        json!({ "openapi": "3.1.0", "paths": { "/a/{id}": item, "/b": { "get": { "operationId": "b" } } } });
    if !servers.is_null() {
        document["servers"] = servers.clone();
    }
    let at = at.map(|at| Url::parse(at).expect("an address"));
    import_for(document.to_string().as_bytes(), at.as_ref()).expect("a document")
}

fn listed(addresses: &[&str]) -> Value {
    addresses.iter().map(|address| json!({ "url": address })).collect()
}

/// Where the operation is called.
fn called(api: &Api, at: &str) -> Result<String, String> {
    let own = api.operations.iter().find(|operation| operation.slug == "own").ok_or("left out")?;
    let given = crate::rest::tests::arguments(json!({ "id": "x" }));
    let prepared = own.request(&Url::parse(at).expect("an address"), &given);
    prepared.map(|prepared| prepared.url.to_string()).map_err(|error| error.to_string())
}

#[test]
fn an_operation_of_the_same_origin_is_called_where_it_stands() {
    const V1: &str = "https://api.example/v1";
    for (servers, own, at, expected) in [
        (&[V1][..], &[V1][..], V1, "https://api.example/v1/a/x"),
        (&[V1], &["https://api.example/v2"], V1, "https://api.example/v2/a/x"),
        (&[V1], &["https://api.example/v2/"], V1, "https://api.example/v2/a/x"),
        (&[V1], &["https://API.example:443/v2"], V1, "https://api.example/v2/a/x"),
        (&[V1], &["https://api.example"], V1, "https://api.example/a/x"),
        (&[V1], &["/v2"], V1, "https://api.example/v2/a/x"),
        (&[V1], &["https://files.example", "https://api.example/files"], V1, "https://api.example/files/a/x"),
        (&["/v1"], &["/v2"], V1, "https://api.example/v2/a/x"),
        (&["/v1"], &["https://api.example/v2"], V1, "https://api.example/v2/a/x"),
        (&["/"], &["/v2"], "https://api.example", "https://api.example/v2/a/x"),
        (&[], &["/v2"], "https://api.example", "https://api.example/v2/a/x"),
        // Of several environments the operation stands in the one that the connector has.
        (
            &[V1, "https://test.example/v1"],
            &["https://api.example/v2", "https://test.example/v2"],
            "https://test.example/v1",
            "https://test.example/v2/a/x",
        ),
        // The API was given another address: what the document says is said of it.
        (&[V1], &[V1], "http://127.0.0.1:8080", "http://127.0.0.1:8080/a/x"),
        (
            &[V1],
            &["https://api.example/v2"],
            "http://127.0.0.1:8080/proxy/v1",
            "http://127.0.0.1:8080/proxy/v2/a/x",
        ),
        (
            &["https://api.example"],
            &["https://api.example/v2"],
            "http://127.0.0.1/p",
            "http://127.0.0.1/p/v2/a/x",
        ),
    ] {
        for of_path in [true, false] {
            let at_import = api(&listed(servers), &listed(own), Some(at), of_path);
            assert_eq!(called(&at_import, at).as_deref(), Ok(expected), "{servers:?} {own:?} {at}");
            let b = operation(&at_import, "b");
            let b =
                b.request(&Url::parse(at).expect("an address"), &serde_json::Map::new()).expect("a request");
            assert_eq!(b.url.as_str(), format!("{at}/b"), "the others stay where they are");
        }
    }
    // Without an address, by the document alone.
    let alone = api(&listed(&[V1]), &listed(&["https://api.example/v2"]), None, true);
    assert_eq!(called(&alone, V1).as_deref(), Ok("https://api.example/v2/a/x"));
}

#[test]
fn an_operation_of_another_origin_is_left_out_with_a_reason() {
    const V1: &str = "https://api.example/v1";
    for (servers, own, at) in [
        (&[V1][..], "https://files.example/v1", V1),
        (&[V1], "http://api.example/v1", V1),
        (&[V1], "https://api.example:8443/v1", V1),
        (&[V1], "//files.example", V1),
        (&[V1], "https://me@api.example/v1", V1),
        (&[V1], "https://api.example/v2?tenant=x", V1),
        (&[V1, "https://test.example/v1"], "https://test.example/v1", V1),
        (&[V1], "https://files.example/v1", "http://127.0.0.1:8080"),
        (&[], "https://files.example", V1),
        (&[], "javascript:alert(1)", V1),
    ] {
        let api = api(&listed(servers), &listed(&[own]), Some(at), false);
        assert_eq!(called(&api, at), Err("left out".to_owned()), "{own}");
        assert!(api.skipped[0].reason.contains("a server of its own"), "{:?}", api.skipped);
        assert!(!api.skipped[0].reason.contains("tenant"), "{:?}", api.skipped);
    }
}

#[test]
fn an_address_that_does_not_tell_where_an_operation_stands_is_not_guessed() {
    let api = api(&listed(&["https://api.example/v1"]), &listed(&["https://api.example/v2"]), None, false);
    let refused = called(&api, "https://other.example/api").expect_err("it is not known");
    assert!(refused.contains("/v2/") && refused.contains("does not end so"), "{refused}");
}
