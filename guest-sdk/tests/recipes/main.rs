//! The recipes of docs/plugin-guide.md: each stands there as it stands here, and does what the page says.
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails as it should")]

mod batch;
mod deadline;
mod debounce;
mod escalation;
mod polling;
mod reminder;

const RECIPES: &[&str] = &[
    include_str!("batch.rs"),
    include_str!("deadline.rs"),
    include_str!("debounce.rs"),
    include_str!("escalation.rs"),
    include_str!("polling.rs"),
    include_str!("reminder.rs"),
];

#[test]
fn the_blocks_of_the_page_are_the_code_of_these_tests() {
    let guide = include_str!("../../../docs/plugin-guide.md");
    let (_, recipes) = guide.split_once("\n## Recipes\n").expect("the page has recipes");
    let recipes = recipes.split("\n## ").next().expect("a part has a beginning");
    let mut blocks = 0;
    for block in recipes.split("```rust\n").skip(1) {
        let (code, _) = block.split_once("```").expect("a block ends");
        assert!(RECIPES.iter().any(|recipe| recipe.contains(code)), "no test has this code:\n{code}");
        blocks += 1;
    }
    assert!(blocks >= RECIPES.len(), "{blocks} blocks");
}
