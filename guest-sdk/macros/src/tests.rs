//! What authors are told when a function is not what it has to be.

use proc_macro2::TokenStream;
use syn::ItemFn;

fn message(expanded: syn::Result<TokenStream>) -> String {
    expanded.expect_err("a message").to_string()
}

fn activity(options: &str, function: &str) -> syn::Result<TokenStream> {
    crate::activity::expand(options.parse()?, syn::parse_str::<ItemFn>(function)?)
}

fn workflow(options: &str, function: &str) -> syn::Result<TokenStream> {
    crate::workflow::expand(options.parse()?, syn::parse_str::<ItemFn>(function)?)
}

#[test]
fn a_function_without_a_result_is_told_what_to_write() {
    let message = message(activity("", "async fn a(n: u32) {}"));
    assert!(message.contains("`-> airlock::Result<()>`"), "{message}");
}

#[test]
fn a_function_that_is_not_async_is_told_so() {
    assert!(
        message(workflow("", "fn w(ctx: Workflow) -> Result<()> { Ok(()) }"))
            .contains("put `async` before `fn`")
    );
}

#[test]
fn two_inputs_make_a_struct() {
    let message = message(activity("", "async fn a(n: u32, m: u32) -> Result<()> { Ok(()) }"));
    assert!(message.contains("put several values into a struct"), "{message}");
}

#[test]
fn borrowed_and_generic_parameters_are_refused() {
    assert!(message(activity("", "async fn a(n: &str) -> Result<()> { Ok(()) }")).contains("use `String`"));
    assert!(
        message(activity("", "async fn a<T>(n: T) -> Result<()> { Ok(()) }")).contains("cannot be generic")
    );
}

#[test]
fn a_workflow_needs_its_context_and_no_tools() {
    assert!(
        message(workflow("", "async fn w(n: u32) -> Result<()> { Ok(()) }"))
            .contains("`ctx: airlock::Workflow`")
    );
    let message = message(workflow("", "async fn w(ctx: Workflow, t: Tools<A>) -> Result<()> { Ok(()) }"));
    assert!(message.contains("ctx.call_tool::<Slot>"), "{message}");
}

#[test]
fn each_kind_has_its_own_context() {
    assert!(
        message(activity("", "async fn a(ctx: Workflow) -> Result<()> { Ok(()) }"))
            .contains("ActivityContext")
    );
    let message = message(workflow("", "async fn w(ctx: ActivityContext) -> Result<()> { Ok(()) }"));
    assert!(message.contains("airlock::Workflow"), "{message}");
}

#[test]
fn unknown_options_are_told_the_known_ones() {
    let function = "async fn a() -> Result<()> { Ok(()) }";
    assert!(message(activity("timeout = \"1s\"", function)).contains("start_to_close"));
    assert!(message(activity("retry(tries = 1)", function)).contains("attempts"));
    assert!(message(workflow("timeout = \"1s\"", function)).contains("execution_timeout"));
}

#[test]
fn wrong_values_of_options_are_told_the_form() {
    let function = "async fn a() -> Result<()> { Ok(()) }";
    assert!(message(activity("start_to_close = \"soon\"", function)).contains("such as"));
    assert!(message(activity("name = \"a b\"", function)).contains("a name has"));
    assert!(message(activity("retry(backoff = 0.5)", function)).contains("at least 1"));
}

/// How many assertions the body of a workflow gets.
fn assertions(body: &str) -> usize {
    let function = format!("async fn w(ctx: Workflow, n: u32) -> Result<()> {{ {body} }}");
    let expanded = workflow("connectors(Crm)", &function).expect("it expands").to_string();
    expanded.matches("core :: assert !").count()
}

#[test]
fn what_a_body_uses_is_asserted_to_be_declared() {
    for uses in [
        "ctx.call_tool::<Crm>(\"a\", n).retries(1).await",
        "helper(ctx.list_tools::<crate::slots::Crm>()).await",
        "ctx.signal::<Paid>().await",
        "if let Some(sent) = other.try_signal::<Paid>() {}",
        "ctx.on_valid_update::<Set, _>(|_| Ok(()), |_| async {})",
        "ctx.activity(steps::charge, n).await",
        "let f: fn(u32) -> u32 = one; { ctx.activity(steps::charge, f(n)).await }",
        "let inner = ctx.clone(); join!(inner.activity(charge, n))",
        "let (n, inner) = (n.clone(), ctx.clone()); async move { inner.activity(charge, n).await }",
    ] {
        assert_eq!(assertions(uses), 1, "{uses}");
    }
}

#[test]
fn what_only_looks_like_it_is_let_alone() {
    for other in [
        "child.signal::<Paid>(&1).await",
        "ctx.signal_execution::<Paid>(id, &1).await",
        "log.activity(n, 1)",
        "ctx.activity(pick(n), 1)",
        "ctx.activity(n, 1)",
        "let (chosen, _) = (charge, 1); ctx.activity(chosen, n).await",
        "for step in [charge, refund] { ctx.activity(step, n).await }",
        "(self.f)(n).call_tool(1)",
        "ctx.on_query::<_>(handler)",
        "async fn ask<Q: Query>(ctx: &Workflow) -> u32 { ctx.on_query::<Q>(one); ctx.activity(charge, 1).await }",
        "let inner = list.clone(); inner.activity(n, 1)",
    ] {
        assert_eq!(assertions(other), 0, "{other}");
    }
}
