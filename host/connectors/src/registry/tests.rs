use chrono::Utc;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{
    method::{Method, MethodKind},
    *,
};
use crate::{
    Keyring, MasterKey,
    control::{Control, memory::Memory},
    oauth::{Client, Server},
};

fn who(user: &str) -> Principal {
    Principal {
        organization: airlock_engine::OrganizationId::new("org"),
        workspace: airlock_engine::WorkspaceId::new("space"),
        user: airlock_engine::UserId::new(user),
    }
}

fn connector(name: &str, creator: &str, visibility: Visibility) -> Connector {
    Connector {
        id: uuid::Uuid::new_v4().to_string(),
        name: name.into(),
        description: String::new(),
        title: None,
        icon_url: None,
        system_prompt: None,
        protocol: Protocol::Mcp,
        server: "https://api.example/mcp".into(),
        visibility,
        methods: Vec::new(),
        methods_given: true,
        headers: Vec::new(),
        creator: creator.into(),
        workspace: "space".into(),
        organization: "org".into(),
        created_at: Utc::now(),
        modified_at: Utc::now(),
        version: 1,
        inactive: Vec::new(),
        control: Control::default(),
        api: None,
    }
}

fn registry() -> (Memory, Registry) {
    let records = Memory::default();
    let registry = Registry::open(&records).expect("opens");
    (records, registry)
}

const SHARED: [Visibility; 2] = [Visibility::SharedWorkspace, Visibility::SharedOrg];

#[test]
fn a11_a_private_connector_with_headers_is_not_shared_by_a_member_in_any_order() {
    let (records, registry) = registry();
    let save = |connector: Connector, is_owner| registry.save(&records, connector, is_owner, Vec::new());
    let header = || vec![("Authorization".to_owned(), None)];
    let own = Connector { headers: header(), ..connector("own", "ada", Visibility::Private) };
    let own = save(own, false).expect("is ada's");
    for visibility in SHARED {
        let share = |changed: &mut Connector| {
            changed.visibility = visibility;
            Ok(Vec::new())
        };
        let refused =
            registry.change_as(&records, &own.id, false, share).expect_err("is refused").to_string();
        assert!(refused.contains("headers of a shared connector"), "{refused}");
        let new = Connector { headers: header(), ..connector("new", "ada", visibility) };
        assert!(save(new, false).is_err());
        // An owner's, to which a member would add some.
        let shared = save(connector(&format!("of-an-owner-{visibility:?}"), "ada", visibility), true)
            .expect("is saved");
        let add = |changed: &mut Connector| {
            changed.headers = header();
            Ok(Vec::new())
        };
        assert!(registry.change(&records, &shared.id, add).is_err());
        assert!(registry.change_as(&records, &shared.id, true, add).is_ok());
        // What changes nothing about them is nobody's business.
        let touch = |changed: &mut Connector| {
            changed.version += 1;
            Ok(Vec::new())
        };
        assert!(registry.change(&records, &shared.id, touch).is_ok());
    }
    let by_id = registry.by_id(&own.id).expect("is there");
    assert_eq!(
        (by_id.visibility, by_id.version),
        (Visibility::Private, 1),
        "nothing of a refused change stays"
    );
}

#[test]
fn a12_what_is_shared_is_shared_and_named_by_owners() {
    let (records, registry) = registry();
    for visibility in SHARED {
        let new = || connector(&format!("{visibility:?}"), "ada", visibility);
        assert!(registry.save(&records, new(), false, Vec::new()).is_err());
        let saved = registry.save(&records, new(), true, Vec::new()).expect("is saved");
        let rename = |changed: &mut Connector| {
            changed.name = format!("{}-2", changed.name);
            Ok(Vec::new())
        };
        assert!(registry.change_as(&records, &saved.id, false, rename).is_err());
        assert!(registry.change_as(&records, &saved.id, true, rename).is_ok());
    }
    let own = registry.save(&records, connector("own", "ada", Visibility::Private), false, Vec::new());
    let own = own.expect("is ada's");
    for (from, to) in
        [(Visibility::Private, SHARED[0]), (Visibility::Private, SHARED[1]), (SHARED[0], SHARED[1])]
    {
        let put = |visibility| {
            move |changed: &mut Connector| {
                changed.visibility = visibility;
                Ok(Vec::new())
            }
        };
        registry.change_as(&records, &own.id, true, put(from)).expect("is an owner's");
        assert!(registry.change_as(&records, &own.id, false, put(to)).is_err(), "{from:?} to {to:?}");
        assert!(registry.change_as(&records, &own.id, false, put(Visibility::Private)).is_ok());
    }
}

#[test]
fn a22_nobody_takes_a_name_away_from_others_and_no_name_looks_like_an_id() {
    let (records, registry) = registry();
    let save = |name: &str, creator: &str, visibility, is_owner| {
        registry.save(&records, connector(name, creator, visibility), is_owner, Vec::new())
    };
    let of_ada = save("github", "ada", Visibility::Private, false).expect("is ada's");
    let of_bo = save("github", "bo", Visibility::Private, false).expect("is bo's");
    assert!(save("github", "ada", Visibility::Private, false).is_err(), "one has each name once");
    let found = |user: &str| registry.find(&who(user), "github").map(|found| found.id.clone()).ok();
    assert_eq!(
        (found("ada"), found("bo"), found("eve")),
        (Some(of_ada.id.clone()), Some(of_bo.id.clone()), None)
    );
    let shared = save("github", "zoe", Visibility::SharedOrg, true).expect("is everybody's");
    for user in ["ada", "bo", "eve"] {
        assert_eq!(found(user), Some(shared.id.clone()), "it means the same to all");
    }
    assert_eq!(
        registry.find(&who("ada"), &of_ada.id).map(|found| found.id.clone()).ok(),
        Some(of_ada.id.clone())
    );
    assert!(save("github", "eve", Visibility::Private, false).is_err(), "it is known what this means");
    assert!(save("github", "zoe", Visibility::SharedWorkspace, true).is_err());
    let id = shared.id.clone();
    for name in [id.clone(), id.to_uppercase(), id.replace('-', ""), "0".repeat(32)] {
        assert!(check_name(&name).expect_err(&name).to_string().contains("look like an id"));
    }
    assert!(check_name("github-0123456789abcdef").is_ok());
}

#[test]
fn a21_what_a_credential_is_bound_to_has_the_path_as_well() {
    let base = |server: &str| {
        Connector { server: server.into(), ..connector("a", "ada", Visibility::Private) }.base()
    };
    assert_eq!(base("https://api.example/v1/"), base("https://API.example:443/v1?key=1"));
    assert_eq!(base("https://api.example"), base("https://api.example/"));
    for other in [
        "https://api.example/v2",
        "https://api.example/v1/x",
        "https://api.example/",
        "http://api.example/v1",
    ] {
        assert_ne!(base("https://api.example/v1"), base(other), "{other}");
    }
}

#[test]
fn a17_the_secret_of_a_client_is_known_whoever_registered_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = Keyring::open(folder.path(), &MasterKey::from_bytes([1; 32]), None).expect("is made");
    let (records, vault) = (Memory::default(), Vault::new(Arc::new(keyring)));
    let metadata = json!({
        "issuer": "https://as.example", "token_endpoint": "https://as.example/token",
        "authorization_endpoint": "https://as.example/authorize",
    });
    let server = Server::provided(&metadata, Allowed::default()).expect("valid metadata");
    let oauth = |client_id: Option<&str>| {
        let oauth =
            json!({ "method_type": "oauth2", "auth_data": client_id.map(|id| json!({ "client_id": id })) });
        let read = |_: &serde_json::Value, _: &str| Ok(server.clone());
        let mut method = Method::parse(&oauth, "", &read).expect("a method");
        if let Method::Oauth2(oauth) = &mut method {
            oauth.server = Some(server.clone());
        }
        method
    };
    let redirect = "https://airlock.example/v1/airlock/oauth/callback";
    let known = |connector: &Connector| {
        let found = client::secrets(&records, &vault, connector, redirect).expect("opens");
        found.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>()
    };
    // By somebody.
    let given =
        Connector { methods: vec![oauth(Some("ours"))], ..connector("a", "ada", Visibility::Private) };
    assert!(known(&given).is_empty());
    let secret = SecretString::from("the-secret-of-a-client");
    records.write(&[client::seal(&vault, &given, Some(secret)).expect("is sealed")]).expect("is written");
    assert_eq!(known(&given), ["the-secret-of-a-client"]);
    // By us.
    let registered = Connector { methods: vec![oauth(None)], ..connector("b", "ada", Visibility::Private) };
    let made = Client::for_programs("client_secret_post", "them", Some("a-secret-of-theirs".into()), None);
    let bytes = made.expect("a client").to_bytes().expect("is written");
    let key = client::key(&registered);
    let place = client::place(&registered, &key, Some((server.issuer(), redirect)));
    records.write(&[vault.put(&key, &place, &bytes)]).expect("is written");
    assert_eq!(known(&registered), ["a-secret-of-theirs"]);
    // One that was registered with another server is none of this one's.
    let moved = Connector { server: "https://other.example/mcp".into(), ..registered };
    assert!(known(&moved).is_empty());
}

/// A document with a key, and with OAuth if it is to have it.
fn document(has_oauth: bool) -> Vec<u8> {
    let mut schemes = json!({ "key": { "type": "apiKey", "in": "header", "name": "X-Key" } });
    if has_oauth {
        let flow = json!({
            "authorizationUrl": "https://old.example/authorize", "tokenUrl": "https://old.example/token",
            "scopes": { "read": "to read" },
        });
        schemes["oauth"] = json!({ "type": "oauth2", "flows": { "authorizationCode": flow } });
    }
    let names = schemes.as_object().expect("an object").keys().cloned();
    let security: Vec<Value> = names.map(|name| json!({ name: [] })).collect();
    let operation = json!({ "operationId": "list", "responses": { "200": { "description": "ok" } } });
    let document = json!({
        "openapi": "3.1.0", "info": { "title": "t", "version": "1" }, "paths": { "/list": { "get": operation } },
        "components": { "securitySchemes": schemes }, "security": security,
    });
    document.to_string().into_bytes()
}

#[tokio::test]
async fn a_way_round_for_oauth_stands_beside_the_methods_of_a_document_however_often_that_is_read() {
    let (records, registry) = registry();
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = Keyring::open(folder.path(), &MasterKey::from_bytes([2; 32]), None).expect("is made");
    let vault = Vault::new(std::sync::Arc::new(keyring));
    let egress = crate::egress::Egress::new(Default::default()).expect("a client");
    let with = || With { records: &records, vault: &vault, egress: &egress };
    let issuer = "https://as.example";
    let oauth_of = |connector: &Connector| match connector.method(MethodKind::Oauth2) {
        Some(Method::Oauth2(oauth)) => (oauth.issuer.clone(), oauth.server.is_some(), oauth.scopes.clone()),
        _ => panic!("no OAuth: {:?}", connector.kinds()),
    };
    for has_oauth in [false, true] {
        let body = json!({
            "name": format!("api-{has_oauth}"), "description": "d", "protocol": "http", "server": "https://api.example",
            "oauth_issuer": issuer,
        });
        let made = registry.create(with(), &who("ada"), true, body).await.expect("is registered").0;
        let mut read = (*made).clone();
        for _ in 0..2 {
            let imported = registry.import(with(), &read, &document(has_oauth), None).await;
            read = (*imported.expect("is read").0).clone();
            let mut kinds = read.kinds();
            kinds.sort_by_key(|kind| kind.as_str());
            assert_eq!(kinds, [MethodKind::ApiKey, MethodKind::Oauth2]);
            let scopes = if has_oauth { vec!["read".to_owned()] } else { Vec::new() };
            // Where one authorises is looked for at the issuer that was named.
            assert_eq!(oauth_of(&read), (Some(issuer.to_owned()), false, scopes));
        }
        // Another one, and none: the document counts again.
        let other = json!({ "oauth_issuer": "https://other.example" });
        let changed = registry.update(with(), &who("ada"), true, &read.id, other).await.expect("is changed");
        assert_eq!(oauth_of(&changed).0.as_deref(), Some("https://other.example"));
        let imported = registry.import(with(), &changed, &document(has_oauth), None).await;
        assert_eq!(oauth_of(&imported.expect("is read").0).0.as_deref(), Some("https://other.example"));
    }
    // What the operator names in full is all there is.
    let body = json!({
        "name": "named", "description": "d", "protocol": "http", "server": "https://api.example",
        "auth_methods": [{ "method_type": "oauth2", "oauth_issuer": issuer }],
    });
    let made = registry.create(with(), &who("ada"), true, body).await.expect("is registered").0;
    let read = registry.import(with(), &made, &document(true), None).await.expect("is read").0;
    assert_eq!(read.kinds(), [MethodKind::Oauth2]);
}
