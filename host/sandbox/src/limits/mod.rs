//! What keeps a guest within its bounds.

pub(crate) mod budget;
pub(crate) mod machine;
pub(crate) mod meter;
pub(crate) mod rate;
pub(crate) mod space;
pub(crate) mod ticker;
