//! What an activity asks of its host: through the component's imports, and in a plugin's own tests of a stand-in.

#[cfg(target_arch = "wasm32")]
mod imports;
#[cfg(target_arch = "wasm32")]
pub(crate) use imports::{
    await_auth, block_on, call_tool, cancelled, emit, heartbeat, is_cancelled, list_tools, log,
};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod stand_in;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use stand_in::{await_auth, call_tool, cancelled, emit, heartbeat, is_cancelled, list_tools, log};
