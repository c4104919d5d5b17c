//! What both protocols share: how a server is asked, what can be called, and what went wrong with an attempt. It knows
//! neither of them.

pub(crate) mod definition;
pub(crate) mod service;
pub(crate) mod steps;
pub(crate) mod tools;
pub(crate) mod trouble;
