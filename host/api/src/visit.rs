//! One request, from its head to the last byte of its answer: whose it is, and what it holds.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{
    ApiState,
    budget::{Budget, Charge, FREE, Turn, Turns},
    connections::Connection,
    error::{ApiError, ApiResult},
};

/// A request under way. Handlers find it in the request's extensions; it ends with the answer.
pub(crate) struct Visit {
    budget: Arc<Budget>,
    turns: Arc<Turns>,
    connection: Option<Arc<Connection>>,
    caller: OnceLock<(Arc<str>, Turn)>,
    /// Members of the body that nobody looked at.
    ignored: Mutex<Vec<String>>,
    /// Inputs in the body that were taken for encoded ones.
    decoded: Mutex<Vec<String>>,
}

/// The header of an answer that names them: places in the body, by commas.
const IGNORED: HeaderName = HeaderName::from_static("airlock-ignored");

/// The header that names inputs that were decoded, in the same way.
const DECODED: HeaderName = HeaderName::from_static("airlock-decoded");

/// What would end a place in that header, or the header.
const NOT_IN_A_PLACE: &AsciiSet = &CONTROLS.add(b',').add(b' ').add(b'%');

impl Visit {
    fn new(state: &ApiState, connection: Option<Arc<Connection>>) -> Arc<Self> {
        let (budget, turns) = (Arc::clone(&state.budget), Arc::clone(&state.turns));
        Arc::new(Self {
            budget,
            turns,
            connection,
            caller: OnceLock::new(),
            ignored: Mutex::default(),
            decoded: Mutex::default(),
        })
    }

    /// For a request that nobody attends to.
    pub(crate) fn alone(state: &ApiState) -> Arc<Self> {
        Self::new(state, None)
    }

    /// Somebody with a key: the request is counted with the user's others.
    pub(crate) fn is_of(&self, user: &str) -> ApiResult<()> {
        if let Some(connection) = &self.connection {
            connection.is_known();
        }
        if self.caller.get().is_none() {
            let user: Arc<str> = user.into();
            let turn = self.turns.begin(&user).map_err(|count| {
                let detail = format!(
                    "{count} requests of the user '{user}' are under way, which is the most at once: let some of them end \
                     first, streams and waiting calls count"
                );
                ApiError::Busy(detail, std::time::Duration::from_secs(1))
            })?;
            let _ = self.caller.set((user, turn));
        }
        Ok(())
    }

    /// A member of the body was not looked at: the answer says so.
    pub(crate) fn ignored(&self, place: &str) {
        tracing::debug!(place, "a member of a request's body has no meaning here");
        self.ignored.lock().push(utf8_percent_encode(place, NOT_IN_A_PLACE).to_string());
    }

    /// An input of the body was an encoded one: the answer says so, for whoever meant what stood there.
    pub(crate) fn decoded(&self, place: &str) {
        self.decoded.lock().push(place.to_owned());
    }

    /// The answer is a stream of events, which its reader may read at leisure.
    pub(crate) fn streams(&self) {
        if let Some(connection) = &self.connection {
            connection.streams();
        }
    }

    /// A charge for the caller; all strangers together are one.
    pub(crate) fn charge(&self) -> Charge {
        let user = self.caller.get().map_or_else(|| "".into(), |(user, _)| Arc::clone(user));
        self.budget.nothing(user)
    }
}

/// Around every handler: makes the [`Visit`], and charges for the answer until it is sent.
pub(crate) async fn attend(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let visit = Visit::new(&state, connection);
    request.extensions_mut().insert(Arc::clone(&visit));
    let mut answer = next.run(request).await;
    for (name, places) in [(IGNORED, &visit.ignored), (DECODED, &visit.decoded)] {
        let places = std::mem::take(&mut *places.lock()).join(", ");
        if !places.is_empty()
            && let Ok(places) = HeaderValue::try_from(places)
        {
            answer.headers_mut().insert(name, places);
        }
    }
    let whole = answer.body().size_hint().exact();
    let mut charge = visit.charge();
    match whole.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)) {
        // It is in the socket's buffer in a moment.
        Some(bytes) if bytes <= FREE => return answer,
        Some(bytes) => {
            if let Err(full) = charge.set(bytes) {
                return ApiError::no_room_for_answer(full).into_response();
            }
        }
        // Streams charge for what they hold themselves.
        None => {}
    }
    answer.map(|body| Body::new(Sent { body, rest: Bytes::new(), _charge: charge, _visit: visit }))
}

/// The socket is given so many bytes at a time.
const PIECE: usize = 64 << 10;

/// A body of an answer, which the request's visit lasts as long as. It is handed over in pieces: whoever takes all of it at
/// once would hold it uncharged.
struct Sent {
    body: Body,
    rest: Bytes,
    _charge: Charge,
    _visit: Arc<Visit>,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            }
        }
        let length = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
