use std::{collections::HashMap, fmt::Write as _, time::Instant};

use url::Url;

use super::*;
use crate::rest::tests::{arguments, crm, operation, pets, prepare};

fn schema(operation: &Operation) -> Value {
    operation.input_schema()
}

fn accepts(operation: &Operation, arguments: Value) -> bool {
    jsonschema::validator_for(&schema(operation)).expect("a schema").is_valid(&arguments)
}

fn message(document: Value) -> (String, String) {
    match import(document.to_string().as_bytes()) {
        Err(ConnectorsError::Invalid { pointer, message }) => (pointer, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_document_says_what_it_is_and_where() {
    let api = pets();
    assert_eq!((api.title.as_str(), api.version.as_str()), ("Pets", "1.0"));
    assert_eq!(api.servers, ["https://eu.pets.example/v1"]);
    assert_eq!(crm().servers, ["/"]);
    assert_eq!(api.ways.len(), 2, "{:?}", api.ways);
}

#[test]
fn slugs_come_from_what_identifies_an_operation() {
    let slugs: Vec<_> = pets().operations.into_iter().map(|operation| operation.slug).collect();
    let expected = [
        "compare",
        "create-order",
        "create-pet",
        "delete-pets-id",
        "get-pet-by-id",
        "list-pets",
        "note",
        "replace-pet",
        "replace-photo",
        "upload-photo",
    ];
    assert_eq!(slugs, expected);
}

#[test]
fn slugs_do_not_depend_on_the_order_of_the_document_or_on_texts() {
    let paths = |names: [(&str, &str); 3]| {
        let written = names.map(|(path, id)| {
            format!("{path:?}: {{\"get\": {{\"operationId\": {id:?}, \"summary\": \"{}\", \"responses\": {{}}}}}}", names[0].0)
        });
        let document = format!("{{\"openapi\": \"3.1.0\", \"paths\": {{{}}}}}", written.join(", "));
        let api = import(document.as_bytes()).expect("a document");
        api.operations
            .into_iter()
            .map(|operation| (operation.path, operation.slug))
            .collect::<HashMap<_, _>>()
    };
    let one = paths([("/a", "ping"), ("/b", "Ping"), ("/c", "pong")]);
    let other = paths([("/c", "pong"), ("/b", "Ping"), ("/a", "ping")]);
    assert_eq!(one, other);
    assert_eq!(one["/c"], "pong");
    assert!(
        one["/a"] != one["/b"] && one["/a"].starts_with("ping-") && one["/b"].starts_with("ping-"),
        "{one:?}"
    );
}

#[test]
fn what_cannot_be_called_is_left_out_with_a_reason() {
    let skipped: HashMap<_, _> =
        pets().skipped.into_iter().map(|skipped| (skipped.operation, skipped.reason)).collect();
    for (operation, reason) in [
        ("GET /broken/{id};v=1/../x", "its path is not one"),
        ("GET /matrix/{id}", "has the style 'matrix'"),
        ("/elsewhere", "another file"),
        ("POST /uploads", "a server of its own"),
        ("TRACE /pets/{id}", "gives back the credential"),
    ] {
        assert!(skipped[operation].contains(reason), "{operation}: {}", skipped[operation]);
    }
    assert_eq!(skipped.len(), 5, "{skipped:?}");
}

#[test]
fn row_19_what_authenticates_is_not_shown() {
    let api = pets();
    let list = operation(&api, "list-pets");
    let shown = schema(list);
    let names: Vec<_> = shown["properties"].as_object().expect("properties").keys().collect();
    assert_eq!(names, ["X-Trace", "filter", "ids", "kinds", "limit", "more", "tags", "where", "words"]);
    let noted = api.notes.iter().find(|note| note.place == "security api_key").expect("a note");
    assert!(noted.reason.contains("the connector takes key instead"), "{noted:?}");
    let crm = crm();
    let patch = operation(&crm, "patch-contacts-contact-id");
    assert!(patch.requires_auth && !schema(patch).to_string().contains("X-Api-Key"));
}

#[test]
fn row_19_keys_in_examples_defaults_and_descriptions_are_taken_out() {
    let stored = serde_json::to_string(&pets()).expect("JSON");
    assert!(!stored.to_lowercase().contains("live"), "{stored}");
    assert!(stored.matches("[REDACTED]").count() >= 3, "{stored}");
}

#[test]
fn an_operation_says_what_it_needs_and_what_it_does() {
    let api = pets();
    let needs = |slug: &str| operation(&api, slug).requires_auth;
    assert!(needs("list-pets") && needs("create-pet") && !needs("get-pet-by-id"));
    let tool = operation(&api, "delete-pets-id").tool();
    assert_eq!(tool["description"], "Deprecated. Remove a pet");
    assert_eq!(
        tool["annotations"],
        json!({
            "title": "Remove a pet", "readOnlyHint": false, "idempotentHint": true, "destructiveHint": true,
            "openWorldHint": true,
        })
    );
    let tool = operation(&api, "list-pets").tool();
    assert_eq!((&tool["name"], &tool["title"]), (&json!("list-pets"), &json!("List pets")));
    assert_eq!(tool["annotations"]["readOnlyHint"], true);
    assert_eq!(operation(&api, "create-pet").tool()["annotations"]["idempotentHint"], false);
}

#[test]
fn parameters_of_the_operation_replace_those_of_the_path() {
    let api = pets();
    let limit = &schema(operation(&api, "list-pets"))["properties"]["limit"];
    assert_eq!(limit, &json!({ "type": "integer", "default": 20, "description": "How many" }));
}

#[test]
fn names_in_two_places_get_two_arguments() {
    let api = pets();
    let get = operation(&api, "get-pet-by-id");
    assert_eq!(schema(get)["required"], json!(["id"]));
    let prepared = prepare(get, json!({ "id": 7, "query_id": "x" }));
    assert_eq!(prepared.url.as_str(), "https://api.example/v1/pets/7?id=x");
}

#[test]
fn the_dialect_of_3_0_becomes_json_schema() {
    let api = pets();
    let create = operation(&api, "create-pet");
    let shown = schema(create);
    let pet = &shown["properties"];
    assert_eq!(shown["required"], json!(["name"]));
    assert_eq!(pet["name"], json!({ "type": "string", "examples": ["Rex"] }));
    assert_eq!(pet["nick"], json!({ "type": ["string", "null"] }));
    assert!(pet.get("id").is_none() && pet.get("password").is_some());
    assert_eq!(
        shown["$defs"]["Owner"]["properties"]["age"],
        json!({ "type": "integer", "exclusiveMaximum": 150 })
    );
    let rex =
        json!({ "name": "Rex", "nick": null, "kind": null, "owner": null, "parents": [{ "name": "Max" }] });
    assert!(accepts(create, rex));
    assert!(!accepts(create, json!({ "nick": "no name" })));
    assert!(!accepts(create, json!({ "name": "Rex", "kind": "bird" })));
    assert!(!accepts(create, json!({ "name": "Rex", "owner": { "age": 150 } })));
    assert!(!accepts(create, json!({ "name": "Rex", "parents": [{ "parents": [{ "name": 1 }] }] })));
}

#[test]
fn recursive_schemas_of_3_1_check_to_every_depth() {
    let api = crm();
    let search = operation(&api, "search");
    let deep = (0..40).fold(json!({}), |tree, _| json!({ "and": [tree] }));
    assert!(accepts(search, json!({ "body": deep })) && accepts(search, json!({ "body": "text" })));
    let wrong = (0..40).fold(json!({ "other": 1 }), |tree, _| json!({ "not": tree }));
    assert!(!accepts(search, json!({ "body": wrong })) && !accepts(search, json!({})));
    assert!(!accepts(search, json!({ "body": { "first": "" } })));
    assert!(accepts(search, json!({ "body": { "gone": { "is": "anything" } } })));
}

#[test]
fn a_body_that_is_a_plain_object_stands_beside_the_parameters() {
    let api = crm();
    let patch = operation(&api, "patch-contacts-contact-id");
    assert!(accepts(patch, json!({ "contact-id": 7, "name": "Ada", "If-Match": "x" })));
    assert!(
        !accepts(patch, json!({ "contact-id": 7 }))
            && !accepts(patch, json!({ "contact-id": 7, "name": "" }))
    );
    let prepared = prepare(patch, json!({ "contact-id": 7, "name": "Ada", "nick": "A" }));
    let (media, bytes) = prepared.body.expect("a body");
    assert_eq!(media, "application/merge-patch+json");
    assert_eq!(serde_json::from_slice::<Value>(&bytes).expect("JSON"), json!({ "name": "Ada", "nick": "A" }));
    let pets = pets();
    let replace = operation(&pets, "replace-pet");
    assert!(accepts(replace, json!({ "id": 7, "body": { "id": 7, "name": "Rex" } })));
}

#[test]
fn the_schema_of_an_answer_promises_data_only_for_success() {
    let api = crm();
    let tool = operation(&api, "patch-contacts-contact-id").tool();
    let validator = jsonschema::validator_for(&tool["outputSchema"]).expect("a schema");
    let envelope = |success: bool, data: Value| json!({ "success": success, "data": data, "metadata": {} });
    assert!(validator.is_valid(&envelope(true, json!({ "and": [{}] }))));
    assert!(!validator.is_valid(&envelope(true, json!({ "and": [7] }))));
    assert!(validator.is_valid(&envelope(false, json!({ "and": [7] }))));
    assert!(operation(&api, "put-file").tool().get("outputSchema").is_none());
}

#[test]
fn row_23_examples_stand_in_for_answers() {
    let api = pets();
    let body = |slug: &str| {
        let example = operation(&api, slug).example().expect("an example");
        (example.status, serde_json::from_str(&example.body).unwrap_or(Value::Null))
    };
    assert_eq!(body("get-pet-by-id"), (200, json!({ "id": 1, "name": "Rex" })));
    assert_eq!(body("create-pet"), (201, json!({ "id": 1, "name": "Rex", "accessToken": "[REDACTED]" })));
    assert_eq!(body("list-pets"), (200, json!([{ "name": "Rex", "kind": "dog" }])));
    assert_eq!(body("delete-pets-id"), (204, Value::Null));
    assert!(operation(&api, "note").example().is_none());
}

#[test]
fn documents_that_are_none_are_refused_with_a_reason() {
    for (document, at, reason) in [
        (json!({ "swagger": "2.0", "paths": {} }), "/openapi", "Swagger 2.0 cannot: convert"),
        (json!({ "openapi": "4.0.0", "paths": {} }), "/openapi", "3.0 and 3.1 can be imported, 4.0.0 cannot"),
        (json!({ "paths": {} }), "/openapi", "such as 3.1.0"),
        (json!({ "openapi": "3.1.0" }), "/paths", "an object of paths"),
        (json!({ "openapi": "3.1.0", "paths": {} }), "/paths", "no operation that can be called"),
        (
            json!({ "openapi": "3.1.0", "paths": { "x": { "get": {} } } }),
            "/paths",
            "GET x cannot, its path does not begin with '/'",
        ),
    ] {
        let (pointer, message) = message(document);
        assert!(pointer == at && message.contains(reason), "{pointer}: {message}");
    }
    assert!(
        import(b"openapi: 3.1\npaths: {/a: {get: {}}}").is_ok(),
        "an unquoted version is a number in YAML"
    );
}

#[test]
fn what_is_wrong_in_a_schema_costs_only_itself() {
    let document = json!({ "openapi": "3.0.0", "paths": { "/a/{b}": { "post": {
        "parameters": [
            { "name": "b", "in": "path", "schema": { "type": "any", "minLength": "1" } }, { "name": 7, "in": "query" },
            { "name": "line\nbreak", "in": "header" }, { "name": "unused", "in": "path" }, 7,
            { "name": "loop", "in": "query", "schema": { "$ref": "#/components/schemas/Loop" } },
            { "name": "items", "in": "query", "schema": { "items": [{ "type": "string" }], "required": true, "enum": [] } },
        ],
        "requestBody": { "content": { "application/json": { "schema": { "properties": [], "allOf": {}, "$ref": "x.yaml" } } } },
    } } }, "components": { "schemas": { "Loop": { "allOf": [{ "$ref": "#/components/schemas/Loop" }] } } } });
    let api = import(document.to_string().as_bytes()).expect("a document");
    let post = operation(&api, "post-a-b");
    assert!(accepts(post, json!({ "b": 1, "loop": 2, "items": ["x"], "body": [] })), "{}", schema(post));
    assert!(!accepts(post, json!({ "b": 1, "items": [1] })) && !accepts(post, json!({ "loop": 2 })));
}

#[test]
fn row_22_a_document_has_limits_of_number() {
    let paths: Map<_, _> =
        (0..MAX_OPERATIONS + 10).map(|number| (format!("/{number:05}"), json!({ "get": {} }))).collect();
    let api =
        import(json!({ "openapi": "3.1.0", "paths": paths }).to_string().as_bytes()).expect("a document");
    assert_eq!((api.operations.len(), api.skipped.len()), (MAX_OPERATIONS, 10));
    // The last ones, always the same.
    assert_eq!(api.skipped[9].operation, "GET /20009");
    let reason = &api.skipped[0].reason;
    assert!(reason.contains("room for 20000 operations") && reason.contains("--operations"), "{reason}");
    let parameters: Vec<_> =
        (0..=MAX_PARAMETERS).map(|number| json!({ "name": number.to_string(), "in": "query" })).collect();
    let (_, text) =
        message(json!({ "openapi": "3.1.0", "paths": { "/a": { "get": { "parameters": parameters } } } }));
    assert!(text.contains("more than 500 parameters"), "{text}");
}

/// Operations with a body that many of them share.
fn repeated(operations: usize, body: &Value) -> Api {
    let paths = (0..operations).map(|number| {
        let post = json!({ "post": { "requestBody": { "$ref": "#/components/requestBodies/B" } } });
        (format!("/{number:05}"), post)
    });
    let paths: Map<_, _> = paths.collect();
    let document =
        json!({ "openapi": "3.1.0", "paths": paths, "components": { "requestBodies": { "B": body } } });
    import(document.to_string().as_bytes()).expect("a document")
}

#[test]
fn row_22_a_short_document_cannot_become_a_long_import() {
    let stored = |api: &Api| api.operations.iter().map(size).sum::<usize>();
    let fields: Map<_, _> =
        (0..200).map(|number| (format!("field{number}"), json!({ "const": "x".repeat(90) }))).collect();
    let body = json!({ "content": { "application/json": { "schema": { "properties": fields } } } });
    // There is room for all when less of each is shown.
    let api = repeated(3_000, &body);
    assert_eq!((api.operations.len(), api.skipped.len()), (3_000, 0));
    assert!(stored(&api) < MAX_IMPORTED, "{}", stored(&api));
    let first = schema(&api.operations[0]);
    assert!(first["description"] == PART_OF_INPUT && size(&first) < MAX_INPUT / 2, "{first}");
    // Names alone can be too long.
    let fields: Map<_, _> = (0..300).map(|number| (format!("{number:0200}"), json!({}))).collect();
    let body = json!({ "content": { "application/json": { "schema": { "properties": fields } } } });
    let api = repeated(1_300, &body);
    assert!(stored(&api) < MAX_IMPORTED + (1 << 20), "{}", stored(&api));
    assert!(api.operations.len() + api.skipped.len() == 1_300 && !api.skipped.is_empty());
    assert!(api.skipped[0].reason.contains("take 64 MB, and there is no more room"), "{:?}", api.skipped[0]);
}

#[test]
fn row_22_a_long_part_that_is_used_very_often_does_not_take_minutes() {
    let begin = Instant::now();
    let long: Vec<_> = (0..200_000).map(|_| json!({ "const": 1 })).collect();
    let answer =
        json!({ "content": { "application/json": { "schema": { "type": "object", "anyOf": long } } } });
    let paths: Map<_, _> = (0..5_000)
        .map(|number| {
            (format!("/{number}"), json!({ "get": { "responses": { "200": { "$ref": "#/answer" } } } }))
        })
        .collect();
    let document = json!({ "openapi": "3.1.0", "paths": paths, "answer": answer });
    let api = import(document.to_string().as_bytes()).expect("a document");
    let last = api.skipped.last().expect("operations that were left out");
    assert!(last.reason.contains("too often"), "{last:?}");
    assert!(begin.elapsed() < airlock_patience::LIMIT, "{:?}", begin.elapsed());
}

#[test]
fn a_schema_of_an_answer_that_is_shown_in_part_says_so() {
    let fields: Map<_, _> =
        (0..300).map(|number| (format!("field{number}"), json!({ "enum": ["x".repeat(90)] }))).collect();
    let answer = json!({ "application/json": { "schema": { "type": "object", "description": "One.", "properties": fields } } });
    let document = json!({ "openapi": "3.1.0", "paths": { "/a": { "get": { "responses": { "200": { "content": answer } } } } } });
    let api = import(document.to_string().as_bytes()).expect("a document");
    let tool = api.operations[0].tool();
    let data = &tool["outputSchema"]["then"]["properties"]["data"];
    assert_eq!(data["description"], format!("{PART_OF_OUTPUT} One."));
}

#[test]
fn an_answer_of_any_type_is_taken_for_json() {
    let answer = json!({ "*/*": { "schema": { "type": "object", "properties": { "a": { "const": 1 } } } } });
    let document = json!({ "openapi": "3.0.1", "paths": { "/a": { "get": { "responses": { "200": { "content": answer } } } } } });
    let api = import(document.to_string().as_bytes()).expect("a document");
    let get = operation(&api, "get-a");
    assert!(get.tool().get("outputSchema").is_some());
    let example = get.example().expect("an example");
    assert_eq!(
        (example.content_type.as_deref(), example.body.as_str()),
        (Some("application/json"), r#"{"a":1}"#)
    );
}

/// A document of the size and shape of GitHub's: a thousand operations, definitions that refer to each other in circles,
/// long descriptions, an example for each answer.
fn large() -> String {
    let mut text = String::from(r#"{"openapi":"3.0.3","info":{"title":"Large","version":"1"},"paths":{"#);
    let prose = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor. ".repeat(12);
    for number in 0..500 {
        let comma = if number == 0 { "" } else { "," };
        let example: Vec<_> = (0..40)
            .map(|field| format!("\"field_{field}\":\"https://api.example/repos/octocat/{number}/{field}\""))
            .collect();
        let (example, this, that) = (example.join(","), number % 300, (number * 7) % 300);
        write!(
            text,
            r##"{comma}"/repos/{{owner}}/{{repo}}/things{number}":{{
              "parameters":[{{"$ref":"#/components/parameters/owner"}},{{"$ref":"#/components/parameters/repo"}}],
              "get":{{"operationId":"things/list-{number}","summary":"List","description":"{prose}",
                "parameters":[{{"name":"per_page","in":"query","description":"{prose}","schema":{{"type":"integer","default":30}}}}],
                "responses":{{"200":{{"description":"ok","content":{{"application/json":{{
                  "schema":{{"type":"array","items":{{"$ref":"#/components/schemas/s{this}"}}}},
                  "examples":{{"default":{{"value":[{{{example}}}]}}}}}}}}}}}}}},
              "post":{{"operationId":"things/create-{number}","description":"{prose}","requestBody":{{"required":true,
                "content":{{"application/json":{{"schema":{{"$ref":"#/components/schemas/s{that}"}}}}}}}},
                "responses":{{"201":{{"description":"ok","content":{{"application/json":{{
                  "schema":{{"$ref":"#/components/schemas/s{this}"}},"example":{{{example}}}}}}}}}}}}}}}"##
        )
        .expect("text");
    }
    text.push_str(
        r#"},"components":{"parameters":{"owner":{"name":"owner","in":"path","required":true,"schema":{"type":"string"}},
        "repo":{"name":"repo","in":"path","required":true,"schema":{"type":"string"}}},"schemas":{"#,
    );
    for number in 0..300 {
        let fields: Vec<_> = (0..120)
            .map(|field| {
                let other = (number + field * 11) % 300;
                match field % 6 {
                    0 => format!(r##""r{field}":{{"$ref":"#/components/schemas/s{other}"}}"##),
                    1 => format!(
                        r##""l{field}":{{"type":"array","items":{{"anyOf":[{{"$ref":"#/components/schemas/s{other}"}},{{"type":"string"}}]}}}}"##
                    ),
                    _ => format!(
                        r#""f{field}":{{"type":"string","nullable":true,"format":"uri","example":"https://api.example/{field}","description":"{}"}}"#,
                        &prose[..300]
                    ),
                }
            })
            .collect();
        let comma = if number == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}"s{number}":{{"type":"object","required":["f2"],"properties":{{{}}}}}"#,
            fields.join(",")
        )
        .expect("text");
    }
    text.push_str("}}}");
    text
}

#[test]
fn a_document_as_large_as_githubs_takes_seconds_and_is_not_stored_several_times() {
    let document = large();
    assert!(document.len() > 12 << 20, "{} bytes", document.len());
    let begin = Instant::now();
    let api = import(document.as_bytes()).expect("a document");
    let took = begin.elapsed();
    assert_eq!((api.operations.len(), api.skipped.len()), (1_000, 0));
    let stored = serde_json::to_vec(&api).expect("JSON");
    println!("{} bytes imported in {took:?}, {} bytes stored", document.len(), stored.len());
    assert!(took < airlock_patience::LIMIT, "{took:?}");
    assert!(stored.len() < 3 * document.len(), "{} bytes", stored.len());
    for operation in serde_json::from_slice::<Api>(&stored).expect("an API").operations {
        let tool = operation.tool();
        assert!(tool.to_string().len() < 64 << 10);
        assert!(jsonschema::validator_for(&tool["inputSchema"]).is_ok());
        assert!(jsonschema::validator_for(&tool["outputSchema"]).is_ok());
    }
}

#[test]
fn what_is_stored_builds_the_same_requests() {
    let stored = serde_json::to_string(&pets()).expect("JSON");
    let api: Api = serde_json::from_str(&stored).expect("an API");
    assert_eq!(serde_json::to_string(&api).expect("JSON"), stored);
    let base = Url::parse("https://api.example/v1").expect("an address");
    let list = operation(&api, "list-pets");
    let arguments = arguments(json!({ "limit": 5, "X-Trace": "t" }));
    let request = list.request(&base, &arguments).expect("a request");
    assert_eq!(request.url.as_str(), "https://api.example/v1/pets?limit=5");
    let as_value: Api = serde_json::from_value(serde_json::from_str(&stored).expect("JSON")).expect("an API");
    assert_eq!(serde_json::to_string(&as_value).expect("JSON"), stored);
}
