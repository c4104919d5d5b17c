//! Serving on a socket.

use std::{io, time::Duration};

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{ApiState, router};

/// How long requests that are under way may take to end after the daemon was asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `shutdown`; then streams end in order, and other requests have a few seconds.
pub async fn serve(
    listener: TcpListener,
    mut state: ApiState,
    shutdown: CancellationToken,
) -> io::Result<()> {
    state.closing = shutdown.clone();
    // An answer in two segments would cost a keep-alive client 40 ms of delayed acknowledgement.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
    });
    let stop = shutdown.clone();
    let server =
        axum::serve(listener, router(state)).with_graceful_shutdown(async move { stop.cancelled().await });
    tokio::select! {
        ended = server.into_future() => ended,
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => {
            tracing::warn!("some requests did not end in time");
            Ok(())
        }
    }
}
