//! Searches for authorization servers through scripted servers: whatever goes wrong in one place, the next is asked.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, header};
use serde_json::json;
use url::Url;

use super::{
    challenge,
    discovery::{Found, Search},
    fixture::{Fixture, LOOPBACK, merged, wire},
    server::{Server, Source},
};
use crate::ConnectorsError;

fn resource(fixture: &Fixture, servers: &[String]) -> String {
    json!({
        "resource": fixture.url("/mcp"), "authorization_servers": servers, "scopes_supported": ["read", "write"],
    })
    .to_string()
}

const PRM: &str = "GET /.well-known/oauth-protected-resource/mcp";
const ROOT: &str = "GET /.well-known/oauth-authorization-server";

async fn search(fixture: &Fixture, issuer: Option<&str>) -> Found {
    let server_url = &*fixture.url("/mcp?key=1");
    let search = Search { server_url, challenge: None, issuer, patience: Duration::from_secs(2) };
    search.run(&*wire(), LOOPBACK).await
}

/// A search that begins with a challenge.
async fn challenged(fixture: &Fixture, text: &str) -> Found {
    let mut headers = HeaderMap::new();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_str(text).expect("a header"));
    let server_url = &*fixture.url("/mcp?key=1");
    let said = challenge(&Url::parse(server_url).expect("an address"), &headers);
    let search =
        Search { server_url, challenge: said.as_ref(), issuer: None, patience: Duration::from_secs(2) };
    search.run(&*wire(), LOOPBACK).await
}

/// The outcomes, in order.
fn outcomes(found: &Found) -> Vec<String> {
    found.tried.iter().map(|tried| tried.outcome.to_string()).collect()
}

#[tokio::test]
async fn whatever_a_place_answers_the_next_is_asked() {
    for (status, kind, body) in [
        (500, "text/plain", "oops"),
        (503, "application/json", "{}"),
        (429, "text/plain", "slowly"),
        (403, "text/plain", "denied"),
        (200, "text/html", "<!doctype html>"),
        (200, "application/json", "{\"message\": \"hello\"}"),
        (200, "application/json", "{\"issuer\": 7, \"token_endpoint\": []}"),
        (200, "application/json", "{\"resource\": \"https://other.example/\"}"),
        (200, "application/json", "[]"),
        (204, "application/json", ""),
        (301, "text/plain", ""),
    ] {
        let (tools, issuer) = (Fixture::start().await, Fixture::start().await);
        tools.otherwise(status, kind, body);
        issuer.otherwise(status, kind, body);
        // The last places of both.
        let realm = issuer.url("/realms/x");
        let about = resource(&tools, std::slice::from_ref(&realm));
        tools.on("GET /.well-known/oauth-protected-resource", 200, about);
        let document = merged(issuer.metadata(), json!({ "issuer": realm })).to_string();
        issuer.on("GET /realms/x/.well-known/openid-configuration", 200, document);
        let found = search(&tools, None).await;
        let server = found.server.as_ref().unwrap_or_else(|error| panic!("{status} {body}: {error}"));
        assert_eq!(server.issuer(), realm);
        let told = outcomes(&found);
        assert_eq!(told.len(), 7, "{told:?}");
        assert!(told[3] == "used" && told[6] == "used", "{told:?}");
        assert!(!told[1].is_empty() && told[1] != "used", "{told:?}");
    }
}

#[tokio::test]
async fn a_place_that_never_answers_costs_its_share_of_the_time_and_no_more() {
    let tools = Fixture::start().await;
    tools.silent(PRM);
    tools.on(ROOT, 200, tools.metadata().to_string());
    let found = search(&tools, None).await;
    assert_eq!(found.server.as_ref().expect("a server").issuer(), tools.origin);
    assert!(outcomes(&found).contains(&"no answer in time".to_owned()), "{:?}", outcomes(&found));
    let silent = Fixture::start().await;
    for path in
        ["/mcp", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-authorization-server"]
    {
        silent.silent(&format!("GET {path}"));
    }
    let began = Instant::now();
    let found = search(&silent, None).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let error = found.server.expect_err("nothing answers");
    assert!(matches!(error, ConnectorsError::Timeout(_)), "{error:?}");
    let told = error.to_string();
    assert!(told.contains("127.0.0.1") && told.contains("no answer in time"), "{told}");
    assert!(told.contains("its host did not answer before"), "{told}");
}

#[tokio::test]
async fn a_redirect_of_any_kind_is_one_place_less_and_is_told_by_where_it_leads() {
    for (location, expected) in [
        ("", "a redirect (307) without an address, which is not followed"),
        ("http://[", "a redirect (307) with an address that cannot be read"),
        ("/.well-known/oauth-protected-resource/mcp", "a redirect (307) to itself"),
        ("?", "a redirect (307) to"),
        ("/canary", "a redirect (307) to another place of the same host"),
        ("https://login.example/canary?canary", "a redirect (307) to login.example"),
        ("javascript:canary", "a redirect (307) to something that is no address of a server"),
    ] {
        let tools = Fixture::start().await;
        tools.redirect(PRM, 307, location);
        tools.on(ROOT, 200, tools.metadata().to_string());
        let found = search(&tools, None).await;
        assert_eq!(found.server.as_ref().expect("a server").issuer(), tools.origin, "{location}");
        let told = outcomes(&found).join("\n");
        assert!(told.contains(expected) && !told.contains("canary"), "{told}");
        assert_eq!(tools.seen().iter().filter(|seen| seen.what == PRM).count(), 1, "{location}");
    }
}

#[tokio::test]
async fn metadata_that_are_broken_are_told_by_their_place_and_nothing_is_assumed_instead() {
    for (body, expected) in [
        ("{'issuer': 'canary'}", "single quotes, where JSON has double ones (line 1, column 2)"),
        ("{\"issuer\": \"canary", "it ends too soon in issuer"),
        ("{\"issuer\": canary}", "something that is no value in issuer"),
    ] {
        for place in [PRM, ROOT] {
            let tools = Fixture::start().await;
            tools.on(place, 200, body);
            let error = search(&tools, None).await.server.expect_err("is broken").to_string();
            assert!(error.starts_with("127.0.0.1 ") && error.contains(expected), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
    // What changes nothing is taken out.
    let tools = Fixture::start().await;
    let text = tools
        .metadata()
        .to_string()
        .replacen('{', "{\"n\": NaN, ", 1)
        .replace("]}", ",],}")
        .replace('}', ",}");
    tools.on(ROOT, 200, text.replace(",,", ","));
    assert_eq!(search(&tools, None).await.server.expect("a server").issuer(), tools.origin);
}

#[tokio::test]
async fn all_servers_that_the_resource_names_are_asked_in_order() {
    let (tools, broken, good) = (Fixture::start().await, Fixture::start().await, Fixture::start().await);
    let named = [
        "http://127.0.0.1:1/dead".to_owned(),
        "https://10.0.0.1/inside".to_owned(),
        "not an address".to_owned(),
        broken.origin.clone(),
        good.origin.clone(),
    ];
    tools.on(PRM, 200, resource(&tools, &named));
    broken.on(ROOT, 200, json!({ "issuer": broken.origin }).to_string());
    good.on(ROOT, 200, good.metadata().to_string());
    let found = search(&tools, None).await;
    assert_eq!(found.server.as_ref().expect("a server").issuer(), good.origin);
    let told = outcomes(&found).join(", ");
    assert!(
        told.contains("no answer") && told.contains("not asked") && told.contains("cannot be used"),
        "{told}"
    );
    // If none can be used, none is made up.
    tools.on(ROOT, 200, tools.metadata().to_string());
    good.on(ROOT, 404, "");
    let error = search(&tools, None).await.server.expect_err("no server").to_string();
    assert!(error.contains("token_endpoint: it is missing") && error.contains("Asked: "), "{error}");
    assert!(tools.seen().iter().all(|seen| seen.what != ROOT), "the server itself was asked");
}

#[tokio::test]
async fn nothing_is_assumed_while_a_place_may_only_be_out_of_order() {
    let tools = Fixture::start().await;
    tools.on(ROOT, 500, "oops");
    let error = search(&tools, None).await.server.expect_err("it is not known");
    assert!(error.to_string().contains("status 500: try again later"), "{error}");
    // That its tools cannot be asked for says nothing about its metadata.
    tools.on(ROOT, 404, "");
    tools.on("GET /mcp", 500, "oops");
    assert_eq!(search(&tools, None).await.server.expect("a server").source(), Source::Assumed);
}

#[tokio::test]
async fn the_operator_may_name_the_issuer_of_a_server_that_publishes_under_another_name() {
    let (tools, other) = (Fixture::start().await, Fixture::start().await);
    let at = |issuer: &str| merged(tools.metadata(), json!({ "issuer": issuer })).to_string();
    // At the root of the server, as Atlassian has it.
    tools.on(ROOT, 200, at(&other.origin));
    let error = search(&tools, None).await.server.expect_err("another issuer").to_string();
    assert!(error.contains("--oauth-issuer") && !error.contains(&other.origin), "{error}");
    let found = search(&tools, Some(&other.origin)).await;
    assert_eq!(found.server.expect("a server").issuer(), other.origin);
    // Under a name that the resource gives it, as Slack has it.
    tools.on(PRM, 200, resource(&tools, std::slice::from_ref(&tools.origin)));
    let found = search(&tools, None).await;
    assert!(found.server.is_err());
    let named = found.tried.iter().find_map(|tried| tried.outcome.detail());
    assert_eq!(named, Some(&*other.origin));
    let found = search(&tools, Some(&other.origin)).await;
    assert_eq!(found.server.expect("a server").issuer(), other.origin);
    // Exactly that one.
    tools.on(ROOT, 200, at(&tools.origin));
    for wrong in [other.url("/"), other.url("/x"), "https://10.0.0.1".to_owned()] {
        let error = search(&tools, Some(&wrong)).await.server.expect_err("not that one").to_string();
        assert!(error.contains("another issuer than oauth_issuer"), "{error}");
    }
    // Where it publishes itself, that counts as well.
    other.on(ROOT, 200, other.metadata().to_string());
    let found = search(&tools, Some(&other.origin)).await;
    assert_eq!(found.server.expect("a server").host(), "127.0.0.1");
    assert_eq!(other.last(ROOT).what, ROOT);
}

#[tokio::test]
async fn what_is_odd_in_any_document_is_left_out_and_told() {
    let (tools, issuer) = (Fixture::start().await, Fixture::start().await);
    let about = json!({
        "resource": tools.url("/mcp"), "authorization_servers": issuer.origin, "scopes_supported": { "a": 1 },
    });
    tools.on(PRM, 200, format!("\u{feff}{about}"));
    let odd = json!({ "revocation_endpoint": "", "introspection_endpoint": 7, "scopes_supported": "a b" });
    issuer.on(ROOT, 200, format!("\u{feff}{}", merged(issuer.metadata(), odd)));
    let found = search(&tools, None).await;
    let server = found.server.expect("a server");
    let left_out: Vec<&str> = server.left_out().iter().map(|left_out| &*left_out.what).collect();
    assert_eq!(left_out, ["introspection_endpoint", "scopes_supported of the protected resource"]);
    let told: Vec<String> = found.tried.iter().map(|tried| tried.outcome.to_string()).collect();
    assert!(told[1].starts_with("used without scopes_supported"), "{told:?}");
    let stored = serde_json::to_vec(&server).expect("a record");
    assert_eq!(serde_json::from_slice::<Server>(&stored).expect("a server"), server);
}

#[tokio::test]
async fn row_02_what_is_told_of_places_holds_no_path_and_nothing_that_they_said() {
    let tools = Fixture::start().await;
    tools.otherwise(418, "text/plain", "canary-of-a-body");
    tools.challenge(
        "GET /canary-of-a-path/mcp",
        401,
        "Bearer resource_metadata=\"/canary-of-a-path?key=canary\"",
    );
    let search = Search {
        server_url: &tools.url("/canary-of-a-path/mcp?key=canary"),
        challenge: None,
        issuer: Some("https://10.0.0.1/canary-of-an-issuer"),
        patience: Duration::from_secs(2),
    };
    let found = search.run(&*wire(), LOOPBACK).await;
    let error = found.server.expect_err("nothing").to_string();
    let told: Vec<String> =
        found.tried.iter().map(|tried| format!("{} {}", tried.place, tried.outcome)).collect();
    let told = told.join("\n");
    assert!(!error.contains("canary") && !told.contains("canary"), "{error}\n{told}");
}

#[tokio::test]
async fn the_document_for_the_path_of_the_server_is_found_with_its_resource_and_scopes() {
    let (tools, issuer) = (Fixture::start().await, Fixture::start().await);
    tools.on(
        "GET /.well-known/oauth-protected-resource/mcp",
        200,
        resource(&tools, &[issuer.url("/tenant")]),
    );
    let document = merged(issuer.metadata(), json!({ "issuer": issuer.url("/tenant") })).to_string();
    issuer.on("GET /.well-known/oauth-authorization-server/tenant", 200, document);
    let server = search(&tools, None).await.server.expect("a server");
    assert_eq!(server.issuer(), issuer.url("/tenant"));
    assert_eq!(server.resource(), Some(tools.url("/mcp").as_str()));
    assert_eq!(server.resource_scopes().collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(server.source(), Source::Discovered);
    assert_eq!(server.wire()["x_scope"], "read write");
    assert_eq!(server.wire()["x_source"], "autodiscovery");
}

#[tokio::test]
async fn the_challenge_of_a_401_leads_to_the_document() {
    let (tools, issuer) = (Fixture::start().await, Fixture::start().await);
    tools.on("GET /elsewhere", 200, resource(&tools, std::slice::from_ref(&issuer.origin)));
    issuer.on("GET /.well-known/openid-configuration", 200, issuer.metadata().to_string());
    let challenge = format!("Bearer resource_metadata=\"{}\", scope=\"read\"", tools.url("/elsewhere"));
    let server = challenged(&tools, &challenge).await.server.expect("a server");
    assert_eq!(server.issuer(), issuer.origin);
    assert!(tools.seen().iter().all(|seen| seen.what == "GET /elsewhere"), "{:?}", tools.seen());
    // The same without a challenge at hand: the server is asked for one.
    tools.challenge("GET /mcp", 401, &challenge);
    assert_eq!(search(&tools, None).await.server.expect("a server"), server);
}

#[tokio::test]
async fn a_server_that_is_its_own_authorization_server_is_found() {
    let tools = Fixture::start().await;
    tools.on("GET /.well-known/oauth-authorization-server", 200, tools.metadata().to_string());
    let server = search(&tools, None).await.server.expect("a server");
    assert_eq!(
        (server.issuer(), server.resource()),
        (tools.origin.as_str(), Some(tools.url("/mcp").as_str()))
    );
}

#[tokio::test]
async fn where_nothing_is_published_the_endpoints_are_assumed() {
    let tools = Fixture::start().await;
    let server = search(&tools, None).await.server.expect("a server");
    assert_eq!(server.source(), Source::Assumed);
    assert_eq!(server.issuer(), tools.origin);
    assert_eq!(server.wire()["registration_endpoint"], tools.url("/register"));
}
