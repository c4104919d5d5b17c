//! Guests for tests of what values become on their way: three workflows for each shape that a type can have.
//!
//! `NAME` gives back what it takes. `NAME-ways` sends it over every way that a workflow has, compares what comes back with
//! what went, and lists what differs. `NAME-again` continues as new when it is told to, and gives what it is told then.

use airlock::{Either, Result, Workflow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sometimes an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Stop,
    Move { x: i32, y: i32 },
    V(u8),
    Result(u8),
}

/// Always an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "data")]
pub enum Adjacent {
    Empty,
    Number { n: u32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Untagged {
    Number(i64),
    Both { n: i64, t: String },
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    x: i32,
    y: i32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tree {
    name: String,
    #[serde(default)]
    children: Vec<Tree>,
}

/// Texts with formats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    #[schemars(extend("format" = "date"))]
    day: String,
    #[schemars(extend("format" = "date-time"))]
    at: Option<String>,
    #[schemars(email)]
    to: Option<String>,
}

macro_rules! shape {
    ($module:ident, $ty:ty, $name:literal, $ways:literal, $again:literal) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            airlock::signal!(Say(v: $ty) = "say");
            airlock::signal!(Again() = "again");
            airlock::query!(Ask(v: $ty) -> $ty = "ask");
            airlock::update!(Tell(v: $ty) -> $ty = "tell");

            #[airlock::activity(name = $name)]
            pub(crate) async fn same(v: $ty) -> Result<$ty> {
                Ok(v)
            }

            #[airlock::workflow(name = $name)]
            pub(crate) async fn echo(ctx: Workflow, v: $ty) -> Result<$ty> {
                let _ = ctx;
                Ok(v)
            }

            #[airlock::workflow(name = $again, signals(Say, Again))]
            pub(crate) async fn again(ctx: Workflow, v: $ty) -> Result<$ty> {
                match ctx.race(ctx.signal::<Say>(), ctx.signal::<Again>()).await {
                    Either::Left(said) => said,
                    Either::Right(again) => {
                        again?;
                        ctx.continue_as_new(v)
                    }
                }
            }

            #[airlock::workflow(name = $ways, signals(Say), queries(Ask), updates(Tell))]
            pub(crate) async fn ways(ctx: Workflow, v: $ty) -> Result<Vec<String>> {
                ctx.on_query::<Ask>(Ok);
                ctx.on_update::<Tell, _>(|sent| async move { Ok(sent.value) });
                let mut differences = Vec::new();
                let mut compare = |way: &str, back: Result<$ty>| match back {
                    Ok(back) if back == v => {}
                    other => differences.push(format!("{way}: {other:?}")),
                };
                compare("activity", ctx.activity(same, v.clone()).await);
                compare("child", ctx.child(echo, v.clone()).await);
                let id = format!("{}-told", ctx.execution_id());
                let told = ctx.child(again, v.clone()).id(id).start().await?;
                told.signal::<Say>(&v).await?;
                compare("signal to a child", told.await);
                compare("a person's answer", ctx.wait_for_input().get().await);
                compare("signal", ctx.signal::<Say>().await);
                Ok(differences)
            }
        }
    };
}

shape!(action, Action, "action", "action-ways", "action-again");
shape!(adjacent, Adjacent, "adjacent", "adjacent-ways", "adjacent-again");
shape!(untagged, Untagged, "untagged", "untagged-ways", "untagged-again");
shape!(json, Value, "json", "json-ways", "json-again");
shape!(text, airlock::Json, "text", "text-ways", "text-again");
shape!(optional_point, Option<Point>, "optional-point", "optional-point-ways", "optional-point-again");
shape!(optional_number, Option<u32>, "optional-number", "optional-number-ways", "optional-number-again");
shape!(pair, (u8, String), "pair", "pair-ways", "pair-again");
shape!(trees, Vec<Tree>, "trees", "trees-ways", "trees-again");
shape!(float, f64, "float", "float-ways", "float-again");
shape!(due, Due, "due", "due-ways", "due-again");
shape!(wide, u128, "wide", "wide-ways", "wide-again");

/// Says what it was told, in words: whoever asks may not know such numbers.
#[airlock::workflow(name = "wide-in-words")]
async fn wide_in_words(ctx: Workflow, n: u128) -> Result<String> {
    let _ = ctx;
    Ok(n.to_string())
}

/// The largest number goes to a child, which says what it was told.
#[airlock::workflow(name = "wide-to-child")]
async fn wide_to_child(ctx: Workflow) -> Result<String> {
    ctx.child(wide_in_words, u128::MAX).await
}

airlock::plugin!(
    workflows: [
        action::echo, action::ways, action::again,
        adjacent::echo, adjacent::ways, adjacent::again,
        untagged::echo, untagged::ways, untagged::again,
        json::echo, json::ways, json::again,
        text::echo, text::ways, text::again,
        optional_point::echo, optional_point::ways, optional_point::again,
        optional_number::echo, optional_number::ways, optional_number::again,
        pair::echo, pair::ways, pair::again,
        trees::echo, trees::ways, trees::again,
        float::echo, float::ways, float::again,
        due::echo, due::ways, due::again,
        wide::echo, wide::ways, wide::again,
        wide_in_words, wide_to_child,
    ],
    activities: [
        action::same, adjacent::same, untagged::same, json::same, text::same, optional_point::same,
        optional_number::same, pair::same, trees::same, float::same, due::same, wide::same,
    ],
);
