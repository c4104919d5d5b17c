//! What both protocols share: how a server is asked, what can be called, what went wrong with an attempt, and JSON that
//! is nearly that. It knows neither of them.

pub(crate) mod definition;
pub(crate) mod mend;
pub(crate) mod service;
pub(crate) mod steps;
pub(crate) mod tools;
pub(crate) mod trouble;
