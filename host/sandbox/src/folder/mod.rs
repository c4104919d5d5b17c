//! The plugin folder: what is in it, what became of it, and what serves.

mod judgement;
mod scan;
mod served;
mod stamp;
mod watch;

pub(crate) use {scan::Folder, served::Served, watch::watch};
