//! The sandbox with real components.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod activities;
mod compiling;
mod folder;
mod guests;
mod limits;
mod logs;
mod rejections;
mod room;
mod storage;
mod workflows;
