use proptest::{prelude::*, test_runner::Config};
use serde_json::{Map, json};

use super::*;
use crate::{ActivityOptions, Failure, Json, RetryPolicy, history::StartChild};

fn schedule(input: Value) -> Command {
    let (activity, options) = ("say".into(), ActivityOptions::default());
    Command::ScheduleActivity { seq: 1, activity, input: input.into(), options }
}

fn said(recorded: Command, produced: Command) -> String {
    Difference { event: 3, recorded: Some(recorded), produced: Some(produced) }.to_string()
}

#[test]
fn commands_that_read_the_same_differ_in_a_part_a_place_and_two_values() {
    let begins = "event 3 of the history is schedule activity 'say' (1), but the code now wants schedule activity 'say' (1)";
    for (recorded, produced, ends) in [
        (json!("v1"), json!("v2"), r#" with another input: «"v1"» in the history, «"v2"» now"#),
        (
            json!({ "to": ["a", { "n": 1 }], "x": 0 }),
            json!({ "to": ["a", { "n": 2 }], "x": 0 }),
            " with another input: at «/to/1/n», «1» in the history, «2» now",
        ),
        (json!({ "a": 1 }), json!({}), " with another input: at «/a», «1» in the history, «nothing» now"),
        (json!([1]), json!([1, null]), " with another input: at «/1», «nothing» in the history, «null» now"),
        (
            json!({ "a/b": 1 }),
            json!({ "a/b": "»" }),
            " with another input: at «/a~1b», «1» in the history, «\">\"» now",
        ),
    ] {
        assert_eq!(said(schedule(recorded), schedule(produced)), format!("{begins}{ends}"));
    }
    let retry = RetryPolicy { initial_interval: Duration::from_millis(1_500), ..RetryPolicy::default() };
    let child = |retry| {
        let child = StartChild {
            workflow: "w".into(),
            execution_id: None,
            input: Json::null(),
            close: crate::history::ParentClose::Abandon,
            execution_timeout: None,
            retry: Some(retry),
            await_start: false,
        };
        Command::StartChild { seq: 2, child: Box::new(child) }
    };
    let text = said(child(RetryPolicy::default()), child(retry));
    assert!(
        text.ends_with("with another child: at «/retry/initial_interval», «1s» in the history, «1.5s» now"),
        "{text}"
    );
    let fail = |message: &str| Command::Fail { failure: Failure::permanent("No", message) };
    let text = said(fail("a"), fail("b"));
    assert!(
        text.ends_with("with another failure: at «/message», «\"a\"» in the history, «\"b\"» now"),
        "{text}"
    );
}

#[test]
fn commands_that_read_differently_are_only_named() {
    let timer = Command::StartTimer { seq: 1, duration: Duration::from_secs(60) };
    assert_eq!(
        said(schedule(json!(1)), timer),
        "event 3 of the history is schedule activity 'say' (1), but the code now wants start a timer of 60s (1)"
    );
    let ended = Difference { event: 3, recorded: None, produced: Some(Command::Cancelled) };
    assert_eq!(
        ended.to_string(),
        "event 3 of the history is nothing, but the code now wants end as cancelled"
    );
}

#[test]
fn long_texts_are_cut_to_where_they_part() {
    let text = |end: &str| schedule(json!(format!("{}{end}{}", "x".repeat(500), "y".repeat(500))));
    let said = said(text("left"), text("right"));
    assert!(
        said.contains("«…xxxxxxxxxxxxxxxxleftyyy") && said.contains("«…xxxxxxxxxxxxxxxxrightyyy"),
        "{said}"
    );
    assert!(said.chars().count() < 400, "{said}");
}

#[test]
fn what_may_be_secret_by_its_name_is_not_told() {
    for name in ["password", "API-Key", "accessToken", "client_secret", "Authorization", "set-cookie"] {
        for (left, right) in [
            (json!({ name: "geheim-1" }), json!({ name: "geheim-2" })),
            (json!({ name: { "x": ["geheim-1"] } }), json!({ name: { "x": ["geheim-2"] } })),
            (json!({ "a": { name: "geheim-1", "b": 1 } }), json!({ "a": 5 })),
            (json!({ "header": "Bearer geheim-1" }), json!({ "header": "Bearer geheim-2" })),
        ] {
            let said = said(schedule(left), schedule(right));
            assert!(!said.contains("geheim") && said.contains("not told"), "{said}");
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c«»\\n\"]{0,6}".prop_map(Value::from),
        Just(Value::from("z".repeat(300))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c«»/~]{0,3}", inner, 0..4)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_differs_is_told_at_a_place_where_it_differs_and_in_clear_nothing_of_it(
        left in json_value(), right in json_value(),
    ) {
        let (recorded, produced) = (schedule(left.clone()), schedule(right.clone()));
        let told = said(recorded.clone(), produced.clone());
        let clear = without_values(&told);
        let begins = "event 3 of the history is schedule activity 'say' (1), but the code now wants schedule activity 'say' (1)";
        if left == right {
            prop_assert_eq!(&told, begins);
            return Ok(());
        }
        prop_assert!(told.chars().count() < 450 && !told.contains('\n'), "{}", told);
        // Nothing of a payload is left, whatever marks stood in it.
        let (whole, at) = ("«…» in the history, «…» now", "at «…», ");
        prop_assert!(
            clear == format!("{begins} with another input: {whole}") || clear == format!("{begins} with another input: {at}{whole}"),
            "{}", clear
        );
        let mut place = Vec::new();
        let (left_there, right_there) = parting(Some(&left), Some(&right), &mut place).expect("they differ");
        prop_assert_ne!(left_there, right_there);
        let pointer: String = place.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect();
        prop_assert_eq!(left.pointer(&pointer), left_there);
        prop_assert_eq!(right.pointer(&pointer), right_there);
    }
}

#[test]
fn a_line_with_a_mark_that_nobody_closed_tells_nothing_behind_it() {
    assert_eq!(without_values("a «b» c «d"), "a «…» c «…»");
    assert_eq!(without_values("nothing of the kind"), "nothing of the kind");
}
