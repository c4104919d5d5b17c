//! Query parameters: each works or is refused with its place, and what nobody knows is named.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::house::House;

/// An operation, with its parameters in the query.
struct Operation {
    method: Method,
    path: String,
    parameters: Vec<Value>,
    public: bool,
}

/// All operations as the API describes itself.
async fn operations(house: &House) -> Vec<Operation> {
    let document = house.got("/v1/airlock/openapi.json").await;
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let filled: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        for (method, about) in methods.as_object().expect("methods") {
            let parameters = about["parameters"].as_array().expect("a list").iter();
            operations.push(Operation {
                method: method.to_uppercase().parse().expect("a method"),
                path: filled.join("/"),
                parameters: parameters.filter(|parameter| parameter["in"] == "query").cloned().collect(),
                public: about.get("security").is_some(),
            });
        }
    }
    operations
}

/// Values that the schema of a parameter does not allow.
fn wrong(schema: &Value) -> Vec<&'static str> {
    let one = if schema["type"] == "array" { &schema["items"] } else { schema };
    match (one["type"].as_str(), one["format"].as_str(), &one["enum"], &one["pattern"]) {
        (Some("boolean"), ..) => vec!["maybe", "", "True"],
        (Some("integer"), ..) if one["default"] == 0 => vec!["x", "1001", "-1"],
        (Some("integer"), ..) => vec!["x", "", "1e3"],
        (_, Some("date-time"), ..) => vec!["yesterday", "2026-13-01T00:00:00Z", "2026-01-01"],
        (_, Some("uuid"), ..) => vec!["x"],
        (_, _, Value::Array(_), _) => vec!["nonsense", "ASC"],
        (_, _, _, Value::String(_)) => vec!["x", "evt-", "-1"],
        _ => vec![],
    }
}

#[tokio::test]
async fn every_parameter_is_refused_by_its_name_when_it_cannot_be_meant() {
    let house = House::new().await;
    let (mut seen, mut refused) = (0, 0);
    for operation in operations(&house).await {
        let ask = async |query: &str| {
            let path = format!("{}?{query}", operation.path);
            house.ask_as(&house.owner, operation.method.clone(), &path, &Value::Null).await
        };
        for parameter in &operation.parameters {
            seen += 1;
            let name = parameter["name"].as_str().expect("a name");
            assert!(
                !parameter["description"].as_str().expect("a text").is_empty(),
                "{}: {name}",
                operation.path
            );
            for value in wrong(&parameter["schema"]) {
                let answer = ask(&format!("{name}={value}")).await;
                let what = format!("{} {}?{name}={value}: {}", operation.method, operation.path, answer.body);
                assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{what}");
                assert_eq!(answer.places(), [json!(["query", name])], "{what}");
                refused += 1;
            }
            if parameter["schema"]["type"] != "array" {
                let answer = ask(&format!("{name}=1&{name}=1")).await;
                assert_eq!(answer.places(), [json!(["query", name])], "{}: {name} twice", operation.path);
            }
        }
    }
    assert!(seen > 80 && refused > 100, "{seen} parameters, {refused} refusals");
}

#[tokio::test]
async fn a_parameter_that_nobody_knows_is_refused_by_our_own_routes_and_named_by_those_of_the_contract() {
    let house = House::new().await;
    let mut named = 0;
    for Operation { method, path, parameters, public } in operations(&house).await {
        // One takes what it does not know for a filter, another one would change the master key.
        if public || path.ends_with("events/stream") || path.ends_with("rotate") {
            continue;
        }
        let answer =
            house.ask_as(&house.owner, method.clone(), &format!("{path}?no_such=1&zz=2"), &Value::Null).await;
        if path.starts_with("/v1/airlock/") {
            let places = [json!(["query", "no_such"]), json!(["query", "zz"])];
            assert_eq!(answer.places(), places, "{method} {path}: {}", answer.body);
        } else {
            let ignored = answer.header("airlock-ignored");
            assert_eq!(ignored, Some("?no_such, ?zz"), "{method} {path}: {}", answer.body);
            named += 1;
            for parameter in parameters {
                let known = parameter["name"].as_str().expect("a name");
                let path = format!("{path}?{known}=x");
                let answer = house.ask_as(&house.owner, method.clone(), &path, &Value::Null).await;
                assert_eq!(answer.header("airlock-ignored"), None, "{path}");
            }
        }
    }
    assert!(named > 40, "{named}");
    let near = house.get("/v1/airlock/audit?limt=3").await;
    assert!(
        near.body["detail"][0]["msg"].as_str().is_some_and(|text| text.contains("'limit'")),
        "{}",
        near.body
    );
    let stranger = house.ask_as("nobody", Method::GET, "/v1/airlock/audit?no_such=1", &Value::Null).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "who may not ask is told nothing else");
}

fn names(list: &Value, key: &str) -> Vec<String> {
    let of = |entry: &Value| entry[key].as_str().expect("a text").to_owned();
    list.as_array().expect("a list").iter().map(of).collect()
}

async fn workflows(house: &House, query: &str) -> Vec<String> {
    names(&house.got(&format!("/v1/workflows?{query}")).await["workflows"], "name")
}

#[tokio::test]
async fn filters_of_workflows_do_what_they_say() {
    let house = House::new().await;
    let put = async |path: &str, body: Value| {
        let answer = house.ask_as(&house.owner, Method::PUT, path, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    };
    put("/v1/workflows/echo", json!({ "tags": ["a", "b"], "available_in_chat_assistant": true })).await;
    put("/v1/workflows/adds", json!({ "tags": ["a"], "display_name": "Sums" })).await;
    put("/v1/workflows/fail/archive", Value::Null).await;
    house.start("echo", "one", json!({})).await;
    house.start("Wait", "two", json!({})).await;
    house.ended("one").await;

    // Capitals and small letters are alike: "echo", "fail", "steps", "Sums" and "Wait".
    assert_eq!(workflows(&house, "").await, ["echo", "fail", "steps", "adds", "Wait"]);
    assert_eq!(
        workflows(&house, "order=desc&sort_by=display_name").await,
        ["Wait", "adds", "steps", "fail", "echo"]
    );
    assert_eq!(workflows(&house, "archived=true").await, ["fail"]);
    assert_eq!(
        workflows(&house, "archived=false&include_shared=false").await,
        ["echo", "steps", "adds", "Wait"]
    );
    assert_eq!(workflows(&house, "tags=a").await, ["echo", "adds"]);
    assert_eq!(workflows(&house, "tags=a&tags=b").await, ["echo"]);
    assert_eq!(workflows(&house, "available_in_chat_assistant=true").await, ["echo"]);
    assert_eq!(workflows(&house, "available_in_chat_assistant=false").await.len(), 4);
    assert_eq!(workflows(&house, "deployment_name=other").await, [""; 0]);
    assert_eq!(workflows(&house, "deployment_name=other&deployment_name=cast").await.len(), 5);
    assert_eq!(workflows(&house, "deployment_status=active&active_only=true").await.len(), 5);
    assert_eq!(workflows(&house, "deployment_status=inactive").await, [""; 0]);
    assert_eq!(workflows(&house, "status=COMPLETED").await, ["echo"]);
    assert_eq!(workflows(&house, "status=COMPLETED&status=RUNNING").await, ["echo", "Wait"]);
    assert_eq!(workflows(&house, "status=RETRYING_AFTER_ERROR").await, [""; 0]);
    assert_eq!(workflows(&house, "search=SUM").await, ["adds"]);
    assert_eq!(workflows(&house, "search=what%20wait").await, ["Wait"]);
    let id = house.got("/v1/workflows/echo").await["workflow"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(workflows(&house, &format!("search={}", &id[..13])).await, ["echo"]);
    // What others run is not seen by members.
    let ada = house.member("ada").await;
    let hers = house.ask_as(&ada, Method::GET, "/v1/workflows?status=COMPLETED", &Value::Null).await;
    assert_eq!(hers.body["workflows"], json!([]));

    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = house.got(&format!("/v1/workflows?limit=2{cursor}")).await;
        found.extend(names(&page["workflows"], "name"));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, workflows(&house, "").await);

    let registrations = async |query: &str| {
        let list = house.got(&format!("/v1/workflows/registrations?with_workflow=true&{query}")).await;
        let names = list["workflow_registrations"].as_array().expect("a list").iter();
        names.map(|it| it["workflow"]["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(registrations("task_queue=cast").await.len(), 5);
    assert_eq!(registrations("task_queue=other").await, [""; 0]);
    assert_eq!(registrations("available_in_chat_assistant=true").await, ["echo"]);
    assert_eq!(registrations("workflow_search=sums").await, ["adds"]);
    assert_eq!(registrations(&format!("workflow_id={id}")).await, ["echo"]);
    assert_eq!(registrations("workflow_name=Wait&active_only=true").await, ["Wait"]);
    assert_eq!(registrations("archived=true").await, ["fail"]);
}

#[tokio::test]
async fn a_list_ends_and_goes_on_only_where_it_said() {
    let house = House::new().await;
    for n in 0..5 {
        house.start("echo", &format!("run-{n}"), json!({})).await;
        let schedule =
            json!({ "schedule_id": format!("s-{n}"), "input": {}, "cron_expressions": ["0 0 1 1 *"] });
        let made = house
            .post("/v1/workflows/schedules", json!({ "workflow_identifier": "echo", "schedule": schedule }))
            .await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let name = if n % 2 == 0 { format!("c-{n}") } else { format!("C-{n}") };
        let connector = json!({ "name": name, "description": "d", "server": "http://127.0.0.1:9/mcp",
            "protocol": "mcp" });
        let made = house.post("/v1/connectors", connector).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    }
    for (path, list, key, token, next) in [
        (
            "/v1/workflows/runs?page_size=2",
            "executions",
            "execution_id",
            "next_page_token",
            "/next_page_token",
        ),
        (
            "/v1/workflows/schedules?page_size=2",
            "schedules",
            "schedule_id",
            "next_page_token",
            "/next_page_token",
        ),
        ("/v1/connectors?page_size=2", "items", "name", "cursor", "/pagination/next_cursor"),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        while found.len() < 20 {
            let page = house.got(&format!("{path}{cursor}")).await;
            found.extend(names(&page[list], key));
            let Some(next) = page.pointer(next).expect("it is there").as_str() else { break };
            cursor = format!("&{token}={next}");
        }
        if list == "items" {
            assert_eq!(found, ["c-0", "C-1", "c-2", "C-3", "c-4"], "capitals do not come first");
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 5, "{path}: {found:?}");
        for damaged in [format!("{cursor}x"), format!("&{token}=c-2"), format!("&{token}=3")] {
            let answer = house.get(&format!("{path}{damaged}")).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}{damaged}: {}", answer.body);
            assert_eq!(answer.places(), [json!(["query", token])]);
        }
    }
    let ada = house.member("ada").await;
    let owners = house.ask_as(&ada, Method::GET, "/v1/workflows/runs?user_id=owner", &Value::Null).await;
    assert_eq!(owners.body["executions"], json!([]), "those of others are not one's own");
}

#[tokio::test]
async fn stored_events_are_found_by_their_run_alone_and_streams_give_what_was_asked_for() {
    let house = House::new().await;
    house.start("steps", "walk", json!({})).await;
    let ended = house.ended("walk").await;
    let run = ended["run_id"].as_str().expect("a run").to_owned();
    let list =
        async |query: &str| house.got(&format!("/v1/workflows/events/list?{query}")).await["events"].clone();
    let all = list("workflow_exec_id=walk").await;
    assert!(all.as_array().is_some_and(|events| events.len() >= 4), "{all}");
    assert_eq!(list(&format!("workflow_run_id={run}")).await, all);
    assert_eq!(list(&format!("workflow_run_id={run}&root_workflow_exec_id=walk")).await, all);
    let ada = house.member("ada").await;
    let path = format!("/v1/workflows/events/list?workflow_run_id={run}");
    assert_eq!(house.ask_as(&ada, Method::GET, &path, &Value::Null).await.status, StatusCode::NOT_FOUND);
    let none = house.get("/v1/workflows/events/list").await;
    assert_eq!(none.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", none.body);

    // Streams of what is stored end by themselves, also while it runs.
    house.start("Wait", "waits", json!({})).await;
    let stream = async |path: &str| {
        let answer = house.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body.as_str().unwrap_or_default().matches("\"event_type\":").count()
    };
    let own = "/v1/workflows/executions/waits/stream?event_source=DATABASE";
    assert_eq!(stream(own).await, 1);
    assert_eq!(stream("/v1/workflows/executions/walk/stream?event_source=LIVE").await, 0);
    let count = all.as_array().map_or(0, Vec::len);
    let of = async |query: &str| {
        stream(&format!("/v1/workflows/events/stream?workflow_exec_id=walk&{query}")).await
    };
    assert_eq!(of("scope=*&stream=*&activity_name=*").await, count);
    assert_eq!(of("stream=airlock").await, count);
    assert_eq!(of("stream=other").await, 0);
    assert_eq!(of("scope=activity").await, 2);
    assert_eq!(of("scope=workflow").await, count - 2);
    assert_eq!(of("workflow_event_types=ACTIVITY_TASK_STARTED").await, 1);
    assert_eq!(of("tenant=7").await, 0, "no event has such metadata");
    let last = all[1]["event_id"].as_str().expect("an id");
    assert_eq!(of(&format!("last_event_id={last}")).await, count - 2);
    let request = axum::http::Request::get("/v1/workflows/events/stream?workflow_exec_id=walk")
        .header("x-api-key", &house.owner)
        .header("last-event-id", "the second")
        .body(axum::body::Body::empty());
    let damaged = house.send(request.expect("a request")).await;
    assert_eq!(damaged.places(), [json!(["header", "last-event-id"])], "{}", damaged.body);
}

#[tokio::test]
async fn whoever_pages_through_tools_comes_to_an_end() {
    let house = House::new().await;
    let operation = |n: u32| json!({ "name": format!("t{n}"), "method": "GET", "path": format!("/{n}") });
    let operations: Vec<Value> = (0..7).map(operation).collect();
    let body = json!({ "name": "svc", "description": "d", "protocol": "http", "server": "http://127.0.0.1:9",
        "operations": operations, "auth_methods": [{ "method_type": "none" }] });
    let made = house.post("/v1/connectors", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let tools = "/v1/connectors/svc/tools";
    let all = names(&house.got(tools).await, "name");
    assert_eq!(all.len(), 7);
    let (mut found, mut page) = (Vec::new(), 1);
    loop {
        let answer = house.get(&format!("{tools}?page={page}&page_size=3")).await;
        assert_eq!(
            (answer.status, answer.header("airlock-total")),
            (StatusCode::OK, Some("7")),
            "{}",
            answer.body
        );
        let more = names(&answer.body, "name");
        if more.is_empty() {
            break;
        }
        found.extend(more);
        page += 1;
    }
    assert_eq!((found, page), (all.clone(), 4));
    assert_eq!(names(&house.got(&format!("{tools}?page_size=2&pretty=true")).await, "name"), all[..2]);
    assert_eq!(names(&house.got(&format!("{tools}?page=1")).await, "name"), all);
    for (query, name) in [("page=0", "page"), ("page_size=0", "page_size"), ("page=-1", "page")] {
        let answer = house.get(&format!("{tools}?{query}")).await;
        assert_eq!(answer.places(), [json!(["query", name])], "{query}: {}", answer.body);
    }
}
