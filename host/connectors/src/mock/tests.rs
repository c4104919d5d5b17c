use super::*;
use crate::control::memory::Memory;

fn mocks(entries: Vec<Value>) -> (Memory, Mocks) {
    let records = Memory::default();
    let mocks = Mocks::open(&records).expect("opens");
    mocks.set(&records, "1", Source::Written, entries).expect("are set");
    (records, mocks)
}

/// The text of the answer to a call.
fn text(mocks: &Mocks, tool: &str, arguments: Value) -> Option<String> {
    let found = mocks.find("1", "ada", tool, &arguments, Shape::Mcp)?;
    found.answer["content"][0]["text"].as_str().map(str::to_owned)
}

#[test]
fn row_23_a_mocked_call_is_answered_from_records_alone_or_not_at_all() {
    let (_, mocks) =
        mocks(vec![json!({ "tool": "read", "arguments": { "id": 1 }, "answer": { "text": "one" } })]);
    assert_eq!(text(&mocks, "read", json!({ "id": 1 })).as_deref(), Some("one"));
    assert_eq!(text(&mocks, "read", json!({ "id": 2 })), None);
    assert_eq!(
        mocks.find("2", "ada", "read", &json!({ "id": 1 }), Shape::Mcp),
        None,
        "another connector's mock"
    );
    let told = mocks.missing("crm", "1", "ada", "read").to_string();
    assert_eq!(
        told,
        "tool 'read' of connector 'crm' is mocked and none of its mocks matches these arguments: write one with `airlock \
         connectors mock crm read --answer '{\"text\": \"…\"}'`"
    );
    assert!(mocks.missing("crm", "1", "ada", "write").to_string().contains("is mocked and it has no mock"));
}

#[test]
fn the_mock_that_asks_for_the_most_answers() {
    let answer = |text: &str| json!({ "text": text });
    let (records, mocks) = mocks(vec![
        json!({ "tool": "t", "answer": answer("any") }),
        json!({ "tool": "t", "arguments": { "a": 1 }, "answer": answer("a") }),
        json!({ "tool": "t", "arguments": { "a": 1, "b": { "c": "x" } }, "answer": answer("a, b, c") }),
        json!({ "tool": "t", "arguments": { "list": [1, { "k": 2 }] }, "answer": answer("list") }),
        json!({ "tool": "t", "arguments": { "nothing": null }, "answer": answer("nothing") }),
    ]);
    mocks
        .set(
            &records,
            "1",
            Source::Example,
            vec![
                json!({ "tool": "t", "arguments": { "a": 1 }, "answer": answer("example") }),
                json!({ "tool": "t", "arguments": { "a": 2 }, "answer": answer("example of two") }),
            ],
        )
        .expect("are set");
    let recorded = |arguments| {
        let answer = json!({ "content": [{ "type": "text", "text": "recorded" }] });
        mocks.record(&records, "1", "ada", "t", &arguments, &answer).expect("is recorded");
    };
    recorded(json!({ "a": 1 }));
    recorded(json!({ "a": 2 }));
    let table = [
        (json!({}), "any"),
        (json!({ "z": 1 }), "any"),
        (json!({ "a": 1.0, "z": 1 }), "a"),
        (json!({ "a": 1, "b": { "c": "x", "d": 1 } }), "a, b, c"),
        (json!({ "a": 1, "b": { "c": "y" } }), "a"),
        (json!({ "list": [1, { "k": 2, "l": 3 }] }), "list"),
        (json!({ "list": [1, { "k": 2 }, 3] }), "any"),
        (json!({ "nothing": null }), "nothing"),
        (json!({ "a": 2 }), "recorded"),
        (json!({ "a": "1" }), "any"),
    ];
    for (arguments, expected) in table {
        assert_eq!(text(&mocks, "t", arguments.clone()).as_deref(), Some(expected), "{arguments}");
    }
}

#[test]
fn among_equals_one_is_chosen_by_the_arguments() {
    let entries = ["a", "b", "c"].map(|text| json!({ "tool": "t", "answer": { "text": text } }));
    let (records, mocks) = mocks(entries.into());
    let answers = |mocks: &Mocks| -> Vec<_> {
        (0..50).map(|id| text(mocks, "t", json!({ "id": id })).expect("is answered")).collect()
    };
    let first = answers(&mocks);
    assert!(["a", "b", "c"].iter().all(|text| first.iter().any(|answer| answer == text)));
    assert_eq!(first, answers(&Mocks::open(&records).expect("opens")));
}

#[test]
fn short_answers_become_whole_ones_in_the_shape_of_the_connector() {
    let rest = Shape::Rest { connector: "crm" };
    let whole = |text: &str, meta: Value| json!({ "content": [{ "type": "text", "text": text }], "metadata": { "mcp_meta": meta } });
    let envelope = |success: bool, data: Value, status: u16| {
        json!({ "success": success, "data": data,
            "metadata": { "connector": "crm", "resource": "t", "status": status, "headers": {} } })
    };
    let table = [
        (
            json!({ "data": { "id": 1 } }),
            Shape::Mcp,
            whole("{\"id\":1}", json!({ "isError": false, "structuredContent": { "id": 1 } })),
        ),
        (json!({ "data": [1] }), Shape::Mcp, whole("[1]", json!({ "isError": false }))),
        (json!({ "data": "5" }), Shape::Mcp, whole("\"5\"", json!({ "isError": false }))),
        (json!({ "data": null }), Shape::Mcp, whole("null", json!({ "isError": false }))),
        (json!({ "text": "hello" }), Shape::Mcp, whole("hello", json!({ "isError": false }))),
        (json!({ "error": "no" }), Shape::Mcp, whole("no", json!({ "isError": true }))),
        (
            json!({ "data": [1] }),
            rest,
            whole("[1]", json!({ "isError": false, "structuredContent": envelope(true, json!([1]), 200) })),
        ),
        (
            json!({ "error": "gone", "status": 404 }),
            rest,
            whole(
                "gone",
                json!({ "isError": true, "structuredContent": envelope(false, json!("gone"), 404) }),
            ),
        ),
        (
            json!({ "content": [], "metadata": { "mcp_meta": { "_meta": { "a": 1 } } } }),
            Shape::Mcp,
            json!({ "content": [], "metadata": { "mcp_meta": { "_meta": { "a": 1 }, "isError": false } } }),
        ),
        (
            json!({ "content": [] }),
            rest,
            json!({ "content": [], "metadata": { "mcp_meta": { "isError": false } } }),
        ),
        (
            json!({ "content": [], "metadata": { "mcp_meta": { "isError": true } } }),
            Shape::Mcp,
            json!({ "content": [], "metadata": { "mcp_meta": { "isError": true } } }),
        ),
    ];
    for (answer, shape, expected) in table {
        let (_, mocks) = mocks(vec![json!({ "tool": "t", "answer": answer, "delay_ms": 20 })]);
        let found = mocks.find("1", "ada", "t", &json!({}), shape).expect("is found");
        assert_eq!(found, Found { answer: expected, delay: Duration::from_millis(20) }, "{answer} {shape:?}");
    }
}

#[test]
fn a_mistake_is_named_with_its_place() {
    let (records, mocks) = mocks(vec![json!({ "tool": "kept", "answer": { "text": "x" } })]);
    let good = json!({ "tool": "t", "answer": { "data": 1 } });
    let with = |field: &str, value: Value| {
        let mut entry = good.clone();
        entry[field] = value;
        entry
    };
    let table = [
        (json!([]), "/1", "an object with 'tool' and 'answer'"),
        (json!({ "tool": "t" }), "/1", "missing field `answer`"),
        (with("answers", json!(1)), "/1/answers", "there is no field 'answers' here: 'answer' is meant?"),
        (with("tool", json!("")), "/1/tool", "the name of a tool"),
        (with("arguments", json!([1])), "/1/arguments", "expected an object"),
        (with("delay_ms", json!(120_001)), "/1/delay_ms", "from 0 to 120000"),
        (with("answer", json!({})), "/1/answer", "one of 'data', 'text' and 'error'"),
        (with("answer", json!("x")), "/1/answer", "one of 'data', 'text' and 'error'"),
        (with("answer", json!({ "data": 1, "text": "x" })), "/1/answer", "one of 'data', 'text' and 'error'"),
        (with("answer", json!({ "data": 1, "more": "x" })), "/1/answer", "one of 'data', 'text' and 'error'"),
        (with("answer", json!({ "content": 1 })), "/1/answer", "a list in 'content'"),
        (with("answer", json!({ "text": 1 })), "/1/answer", "a text in 'text' or 'error'"),
        (with("answer", json!({ "data": 1, "status": 1000 })), "/1/answer", "an HTTP status"),
        (with("answer", json!({ "text": "x".repeat(1 << 20) })), "/1/answer", "at most 1048576 bytes"),
    ];
    for (entry, place, expected) in table {
        let error =
            mocks.set(&records, "1", Source::Written, vec![good.clone(), entry]).expect_err("is refused");
        let ConnectorsError::Invalid { pointer, message } = &error else { panic!("{error:?}") };
        assert_eq!(pointer, place, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(mocks.list("1", "ada").expect("lists").len(), 1, "nothing was replaced");
}

#[test]
fn setting_replaces_what_has_the_same_source_and_a_list_can_be_set_again() {
    let entry = |tool: &str, text: &str| json!({ "tool": tool, "answer": { "text": text } });
    let (records, mocks) = mocks(vec![entry("a/b", "1"), entry("a/b", "2"), entry("c", "3")]);
    mocks.set(&records, "1", Source::Example, vec![entry("c", "example")]).expect("are set");
    mocks.set(&records, "1", Source::Written, vec![entry("a/b", "4")]).expect("are set");
    mocks
        .add(&records, "1", json!({ "tool": "c", "answer": { "text": "5" }, "source": "example" }))
        .expect("is added");
    let listed = mocks.list("1", "ada").expect("lists");
    let sources: Vec<_> =
        listed.iter().map(|entry| (entry["tool"].clone(), entry["source"].clone())).collect();
    assert_eq!(
        json!(sources),
        json!([["a/b", "written"], ["c", "example"], ["c", "written"]]),
        "what one adds oneself is written"
    );
    let reopened = Mocks::open(&records).expect("opens");
    assert_eq!(reopened.list("1", "ada").expect("lists"), listed);
    reopened.set(&records, "2", Source::Written, listed).expect("can be set");
    assert_eq!(reopened.clear(&records, "1", "ada", Some(Source::Example)).expect("clears"), 1);
    assert_eq!(reopened.clear(&records, "1", "ada", None).expect("clears"), 2);
    assert_eq!((records.len(), reopened.clear(&records, "1", "ada", None).expect("clears")), (3, 0));
}

#[test]
fn recordings_replace_each_other_by_arguments_and_the_oldest_go() {
    let (records, mocks) = mocks(vec![json!({ "tool": "t", "answer": { "text": "any" } })]);
    let record = |id: usize, text: &str| {
        let answer = json!({ "content": [{ "type": "text", "text": text }] });
        mocks.record(&records, "1", "ada", "t", &json!({ "id": id }), &answer).expect("is recorded")
    };
    for id in 0..MAX_RECORDED {
        assert!(record(id, "old"));
    }
    record(0, "new");
    record(1, "old");
    assert_eq!(records.len(), MAX_RECORDED + 1);
    record(1_000, "one more");
    assert_eq!(records.len(), MAX_RECORDED + 1);
    let answer = |id: usize| text(&mocks, "t", json!({ "id": id })).expect("is answered");
    assert_eq!((answer(0).as_str(), answer(1).as_str(), answer(1_000).as_str()), ("new", "any", "one more"));
    assert!(!record(2_000, &"x".repeat(MAX_RECORDED_ANSWER)), "too long");
    assert_eq!(answer(2_000), "any");
    records.fail(true);
    assert!(record(5, "old"), "what is known already is not written again");
}

#[test]
fn tools_are_the_stored_list_or_what_the_mocks_tell() {
    let entry = |tool: &str| json!({ "tool": tool, "answer": { "text": "" } });
    let (records, mocks) = mocks(vec![entry("b"), entry("a"), entry("b")]);
    assert_eq!(mocks.tools("2", "ada"), None);
    let schema = json!({ "type": "object" });
    let derived = json!([{ "name": "a", "inputSchema": schema }, { "name": "b", "inputSchema": schema }]);
    assert_eq!(json!(*mocks.tools("1", "ada").expect("are told")), derived);
    let list = [json!({ "name": "z", "description": "last", "inputSchema": schema })];
    mocks.set_tools(&records, "1", &list).expect("are stored");
    assert_eq!(*Mocks::open(&records).expect("opens").tools("1", "ada").expect("are stored"), list);
    let error = mocks.set_tools(&records, "1", &[json!({ "name": "z" })]).expect_err("is refused");
    assert!(matches!(error, ConnectorsError::Invalid { pointer, .. } if pointer == "/0"));
    records.write(&mocks.deletion("1")).expect("writes");
    mocks.forget("1");
    assert_eq!((records.len(), mocks.tools("1", "ada")), (0, None));
}

#[test]
fn a_connector_has_so_many_mocks_and_no_more() {
    let entry = || json!({ "tool": "t", "answer": { "text": "" } });
    let (records, mocks) = mocks((0..MAX_ENTRIES).map(|_| entry()).collect());
    let error = mocks.add(&records, "1", entry()).expect_err("is refused");
    assert_eq!(error.to_string(), "a connector has at most 10000 mocks");
    mocks.set(&records, "1", Source::Written, vec![entry()]).expect("replaces all");
}

#[test]
fn a09_what_was_recorded_is_seen_used_and_removed_by_its_user_alone() {
    let written = json!({ "tool": "t", "arguments": { "id": 1 }, "answer": { "text": "written" } });
    let (records, mocks) = mocks(vec![written]);
    let answer = |of: &str| json!({ "content": [{ "type": "text", "text": of }] });
    for user in ["ada", "zoe"] {
        for tool in ["t", "only-recorded"] {
            let arguments = json!({ "id": 2, "of": "two" });
            mocks.record(&records, "1", user, tool, &arguments, &answer(user)).expect("is recorded");
        }
    }
    let mocks = Mocks::open(&records).expect("opens");
    let text = |user: &str, tool: &str, id: u64| {
        let found = mocks.find("1", user, tool, &json!({ "id": id, "of": "two" }), Shape::Mcp)?;
        found.answer["content"][0]["text"].as_str().map(str::to_owned)
    };
    for user in ["ada", "zoe"] {
        assert_eq!(text(user, "t", 2).as_deref(), Some(user));
        let listed = json!(mocks.list("1", user).expect("lists")).to_string();
        let other = if user == "ada" { "zoe" } else { "ada" };
        assert!(listed.contains(user) && !listed.contains(other), "{listed}");
    }
    assert_eq!((text("eve", "t", 2), text("eve", "t", 1).as_deref()), (None, Some("written")));
    assert_eq!(mocks.list("1", "eve").expect("lists").len(), 1);
    assert_eq!(json!(*mocks.tools("1", "eve").expect("are told")).as_array().map(Vec::len), Some(1));
    assert!(mocks.missing("crm", "1", "eve", "only-recorded").to_string().contains("it has no mock"));
    // Everything that one may see, but nobody else's.
    assert_eq!(mocks.clear(&records, "1", "ada", None).expect("clears"), 3);
    assert_eq!((text("ada", "t", 2), text("zoe", "t", 2).as_deref()), (None, Some("zoe")));
}
