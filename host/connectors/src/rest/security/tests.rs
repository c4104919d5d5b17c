use serde_json::json;

use super::*;

#[test]
fn each_kind_of_scheme_is_understood() {
    let root = json!({ "components": { "securitySchemes": {
        "a": { "type": "http", "scheme": "Bearer" },
        "b": { "type": "http", "scheme": "basic" },
        "c": { "type": "apiKey", "in": "header", "name": "X-Key" },
        "d": { "type": "apiKey", "in": "query", "name": "key" },
        "e": { "type": "apiKey", "in": "cookie", "name": "session" },
        "f": { "type": "oauth2", "flows": {
            "x-more": {},
            "authorizationCode": {
                "authorizationUrl": "https://a.example/authorize", "tokenUrl": "https://a.example/token",
                "refreshUrl": "https://a.example/refresh", "scopes": { "read": "Reads" },
            },
            "clientCredentials": { "tokenUrl": "https://a.example/token", "scopes": {} },
        } },
        "g": { "type": "openIdConnect", "openIdConnectUrl": "https://a.example/.well-known/openid-configuration" },
        "h": { "type": "mutualTLS" },
        "i": { "$ref": "#/components/securitySchemes/b" },
        "j": { "type": "apiKey", "in": "header", "name": "authorization" },
        "k": { "type": "http", "scheme": "digest" },
        "l": { "type": "http", "scheme": "Token" },
        "m": { "$ref": "#/gone" },
        "n": { "type": "apiKey", "in": "header", "name": "Cookie" },
        "o": null,
    } } });
    let schemes = schemes(&root);
    let kinds: Vec<String> = schemes.iter().map(|scheme| format!("{:?}", scheme.kind)).collect();
    let expected = [
        "Bearer",
        "Basic",
        "Key { place: Header, name: \"X-Key\" }",
        "Key { place: Query, name: \"key\" }",
        "Key { place: Cookie, name: \"session\" }",
        "OAuth2",
        "OpenIdConnect",
        "Unsupported { what: \"a client certificate (mutualTLS)\" }",
        "Basic",
        "Bearer",
        "Unsupported { what: \"HTTP digest\" }",
        "Header { scheme: \"Token\" }",
        "Unsupported { what: \"a scheme that is described nowhere: there is no #/gone\" }",
        "Unsupported { what: \"a key in the header 'Cookie', which is set by the host alone\" }",
        "Unsupported { what: \"a scheme without a type\" }",
    ];
    assert_eq!(kinds.len(), expected.len());
    for (kind, expected) in kinds.iter().zip(expected) {
        assert!(kind.starts_with(expected), "{kind} {expected}");
    }
    let SecurityKind::OAuth2 { flows } = &schemes[5].kind else { panic!("{schemes:?}") };
    assert_eq!((flows[0].grant.as_str(), flows[0].scopes["read"].as_str()), ("authorizationCode", "Reads"));
    let hidden = Hidden::by(&schemes);
    assert!(
        hidden.header("x-key") && hidden.query("key") && !hidden.query("X-Key") && hidden.cookie("session")
    );
}

#[test]
fn two_schemes_of_one_requirement_are_one_credential() {
    let key = |name: &str, place: &str| json!({ "type": "apiKey", "in": place, "name": name });
    let root = json!({ "components": { "securitySchemes": {
        "id": key("X-App-Id", "header"), "key": key("X-App-Key", "header"), "query": key("key", "query"),
        "cookie": key("sid", "cookie"), "bearer": { "type": "http", "scheme": "bearer" },
        "basic": { "type": "http", "scheme": "basic" }, "oauth": { "type": "oauth2", "flows": { "implicit": {} } },
        "oauth2": { "type": "oauth2", "flows": {} }, "tls": { "type": "mutualTLS" },
        "oidc": { "type": "openIdConnect", "openIdConnectUrl": "x" },
    } } });
    let schemes = schemes(&root);
    let way = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        match super::way(&schemes, &names) {
            Ok((Way { kind: WayKind::Keys(keys), .. }, note)) => {
                let keys: Vec<_> = keys.iter().map(|key| format!("{:?} {}", key.place, key.name)).collect();
                (keys.join(", "), note.unwrap_or_default())
            }
            Ok((Way { kind: WayKind::Bearer { headers }, .. }, note)) => {
                (format!("bearer {}", headers.join(", ")), note.unwrap_or_default())
            }
            Ok((Way { kind: WayKind::Basic, .. }, note)) => ("basic".into(), note.unwrap_or_default()),
            Ok((Way { kind: WayKind::OAuth2 { .. }, .. }, note)) => {
                ("oauth".into(), note.unwrap_or_default())
            }
            Err(reason) => ("none".into(), reason),
        }
    };
    for (names, kind, said) in [
        (&["id", "key"][..], "Header X-App-Id, Header X-App-Key", ""),
        (&["id", "query", "cookie"], "Header X-App-Id, Query key, Cookie sid", ""),
        (&["bearer", "id"], "bearer X-App-Id", ""),
        (&["oauth", "oauth2"], "oauth", "no flow here that is served"),
        (&["bearer", "oauth"], "bearer ", ""),
        (&["oauth", "id"], "oauth", "give the connector X-App-Id as a header of every request"),
        (&["basic", "id"], "basic", "give the connector X-App-Id"),
        (&["basic", "query"], "none", "only headers can go beside"),
        (&["basic", "bearer"], "none", "one place, the header Authorization"),
        (&["tls"], "none", "it wants a client certificate (mutualTLS), which is not served"),
        (&["oidc"], "bearer ", "'oidc' is OpenID Connect"),
        (&["nobody"], "bearer ", "'nobody' is not described"),
    ] {
        let (found, why) = way(names);
        assert!(
            found == kind && why.contains(said) && why.is_empty() == said.is_empty(),
            "{names:?}: {found}: {why}"
        );
    }
    let sets = |sets: &[&[&str]]| -> Vec<Vec<String>> {
        sets.iter().map(|set| set.iter().map(|&name| name.to_owned()).collect()).collect()
    };
    let (ways, notes) =
        super::ways(&schemes, &sets(&[&["id"], &["oauth"], &["id", "key"], &["query"], &["key"]]));
    assert!(matches!(&ways[0].kind, WayKind::Keys(keys) if keys.len() == 2), "{ways:?}");
    assert!(matches!(&ways[1].kind, WayKind::OAuth2 { .. }) && ways.len() == 4, "{ways:?}");
    let query = notes.iter().find(|note| note.place == "security query").expect("a note");
    assert!(query.reason.contains("takes id + key instead"), "{query:?}");
}

#[test]
fn an_operation_says_whether_it_needs_a_credential() {
    let root = json!({ "security": [{ "oauth": ["read", "write"] }] });
    let scopes = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    for (operation, expected) in [
        (json!({}), (true, scopes(&["read", "write"]))),
        (json!({ "security": [] }), (false, Vec::new())),
        (json!({ "security": [{}, { "key": [] }] }), (false, Vec::new())),
        (json!({ "security": [{ "key": [] }, { "oauth": ["admin"] }] }), (true, scopes(&["admin"]))),
        (json!({ "security": null }), (true, scopes(&["read", "write"]))),
        (json!({ "security": { "key": ["a"] } }), (true, scopes(&["a"]))),
    ] {
        let found = needs(&root, &operation, &[]);
        assert_eq!((found.requires_auth, found.scopes), expected, "{operation}");
    }
    assert_eq!(needs(&json!({}), &json!({}), &[]), Needs::default());
    let more = needs(&root, &json!({}), &["X-Key".to_owned()]);
    assert_eq!(more.alternatives, [["oauth", "X-Key"]]);
    let alone = needs(&json!({}), &json!({}), &["X-Key".to_owned()]);
    assert!(alone.requires_auth && alone.alternatives == [["X-Key"]]);
}
