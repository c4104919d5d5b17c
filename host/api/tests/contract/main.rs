//! The wire contract where clients lean on it: connections that are used again, parameters that work or are refused, places
//! of what is wrong, answers that cannot be taken for others.

#![allow(unreachable_pub, reason = "the modules are the test's own")]

mod answers;
mod archive;
mod connections;
mod counted;
mod house;
mod paging;
mod parameters;
mod places;
