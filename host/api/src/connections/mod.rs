//! The connections that there are: who is on them, what they are waited for, and who has to go when there are too many.
//!
//! | what a connection does | it has to | else |
//! | --- | --- | --- |
//! | nothing came yet, or a part of a request's head | send the whole head within `head_time` | 408 and a sentence |
//! | rests between requests | send something within `idle_time` | it is closed |
//! | sends a body | see `body.rs` | 408 and a sentence |
//! | sends a body that nobody reads | send a MiB at most, within a second | the answer says that it is closed (`unread.rs`) |
//! | takes its answer | take a part of some size in each `write_time` | it is closed |
//! | takes a stream | take anything in [`STREAM_PATIENCE`] times that | it is closed |
//! | too many are there | be needed more than another one ([`Places`]) | it is closed; before its first request with a sentence |

mod pace;
mod places;
mod socket;
mod unread;

pub(crate) use pace::{Connection, Overdue};
pub(crate) use places::{Places, Seat, Turned};
pub(crate) use socket::Watched;
pub(crate) use unread::lend;
