//! Bodies of answers that do not say that they are events, read no further than they are needed: an answer that is whole
//! counts, whether or not its server closes the connection behind it.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, StatusCode};
use rmcp::model::RequestId;
use serde_json::Value;

use super::{
    events,
    failure::Failure,
    reading,
    stream::{DRAIN, MAX_BYTES},
    texts::Texts,
};
use crate::egress::Unanswered;

/// Bytes of what is said with a status that is no answer, and how long it may take.
const MAX_ERROR_BYTES: usize = 64 << 10;
const ERROR_LIMIT: Duration = Duration::from_secs(3);

type Pieces = BoxStream<'static, Result<Bytes, Unanswered>>;

/// What a body is.
pub(super) enum Body {
    /// Messages of the server, and the answer.
    Whole(Vec<Value>, Result<Value, Failure>),
    /// Events, with their beginning.
    Events(Vec<u8>),
}

/// Reads the body of the answer to a request.
pub(super) async fn read(
    body: &mut Pieces,
    id: &RequestId,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Body, Failure> {
    let whole = |read: &[u8]| {
        let (others, result) = reading::whole(read, id, status, headers);
        Body::Whole(others, result)
    };
    if !status.is_success() {
        // What came in time is told.
        return Ok(whole(&short(body, ERROR_LIMIT).await));
    }
    let (mut read, mut blank, mut is_told) = (Vec::new(), 0, false);
    let (mut texts, mut unread) = (Texts::default(), Vec::new());
    loop {
        unread.extend(std::iter::from_fn(|| texts.next(&read)));
        // A text that is whole may be the answer, and the last that comes for long. It is not looked at while more comes.
        let next = match unread.is_empty() {
            true => body.next().await,
            false => match tokio::time::timeout(DRAIN, body.next()).await {
                Ok(next) => next,
                Err(_) if unread.drain(..).any(|text| reading::is_answer(&read[text], id, status)) => {
                    return Ok(whole(&read));
                }
                Err(_) => continue,
            },
        };
        let Some(piece) = next else { return Ok(whole(&read)) };
        let piece = piece.map_err(Failure::Unanswered)?;
        if read.len() + piece.len() > MAX_BYTES {
            return Err(Failure::Unanswered(Unanswered::TooLarge));
        }
        read.extend_from_slice(&piece);
        if !is_told {
            blank += read[blank..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match events::begins(&read[blank..]) {
                Some(true) => return Ok(Body::Events(read)),
                Some(false) => is_told = true,
                None => {}
            }
        }
    }
}

/// What comes of a body in some time, up to a limit.
pub(super) async fn short(body: &mut Pieces, limit: Duration) -> Vec<u8> {
    let mut read = Vec::new();
    let reading = async {
        while let Some(Ok(piece)) = body.next().await {
            if read.len() + piece.len() > MAX_ERROR_BYTES {
                return;
            }
            read.extend_from_slice(&piece);
        }
    };
    // What came until then is told.
    let _ = tokio::time::timeout(limit, reading).await;
    read
}
