//! The attributes of `airlock-sdk`. See there for how they are used.

mod activity;
mod declared;
mod duration;
mod function;
mod options;
mod workflow;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;
use syn::{ItemFn, parse_macro_input};

/// Makes an activity of an `async fn`.
///
/// Parameters, each at most once but `Tools`, in any order: the input, `Tools<Slot>`, `ActivityContext`.
///
/// Options: `name = "…"` (default: the function's), `description = "…"` (default: its documentation),
/// `schedule_to_start = "1m"`, `start_to_close = "30s"`, `schedule_to_close = "10m"`, `heartbeat = "5s"`, `retry(attempts = 3, initial = "1s",
/// backoff = 2.0, max = "100s", non_retryable("Kind"))`, `connectors(Slot)` for slots without a `Tools` parameter.
#[proc_macro_attribute]
pub fn activity(options: TokenStream, function: TokenStream) -> TokenStream {
    let function = parse_macro_input!(function as ItemFn);
    activity::expand(options.into(), function).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a workflow of an `async fn` whose first parameter is a `Workflow`; the second, if any, is the input.
///
/// Options: `name = "…"` (default: the function's), `display_name = "…"`, `description = "…"` (default: its
/// documentation), `on_behalf_of`, `connectors(Slot, …)`, `execution_timeout = "1h"`, `retry(…)` as for an activity (a run
/// that fails is followed by another; without it, never), `signals(S, …)`, `queries(Q, …)`, `updates(U, …)` for what is
/// declared with `signal!`, `query!` and `update!`, `search_keys("path.into.input", …)`.
#[proc_macro_attribute]
pub fn workflow(options: TokenStream, function: TokenStream) -> TokenStream {
    let function = parse_macro_input!(function as ItemFn);
    workflow::expand(options.into(), function).unwrap_or_else(syn::Error::into_compile_error).into()
}
