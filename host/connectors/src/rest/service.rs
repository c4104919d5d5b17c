//! One REST API with one credential: an operation is prepared, sent, and its answer read.

use std::sync::Arc;

use async_trait::async_trait;
use http::{StatusCode, header::RETRY_AFTER};

use super::{Catalogue, Terms, answer};
use crate::{
    ConnectorsError,
    egress::Sender,
    protocol::{
        definition::Definition,
        service::{Answered, Call, Service, Verdict},
        tools::Tools,
        trouble::{Bounds, Sent, Trouble, refused, status, unanswered},
    },
};

/// A REST API, as one credential calls it.
pub(crate) struct Caller {
    pub(crate) connector: String,
    pub(crate) credential: Option<Sent>,
    pub(crate) catalogue: Arc<Catalogue>,
    /// What it adds to what the operations send.
    pub(crate) terms: Terms,
    pub(crate) sender: Sender,
}

#[async_trait]
impl Service for Caller {
    async fn tools(&self, _: bool) -> Result<Arc<Tools>, Trouble> {
        Ok(Arc::clone(&self.catalogue.tools))
    }

    fn definition(&self, tool: &str) -> Option<Arc<Definition>> {
        self.catalogue.definition(tool, &self.terms)
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answered, Trouble> {
        let (name, host) = (&self.connector, self.sender.host());
        let operation = self.catalogue.operation(name, call.tool)?;
        let prepared = operation.request(self.sender.server(), call.arguments)?;
        let most = usize::try_from(call.max_bytes).unwrap_or(usize::MAX);
        let sent = self.sender.send(prepared, call.idempotency_key, call.limit, most).await;
        let bounds = Bounds { time: Some(call.limit), bytes: Some(call.max_bytes) };
        let sent = sent.map_err(|why| unanswered(name, host, why, &bounds, ""))?;
        if sent.status == StatusCode::UNAUTHORIZED {
            return Err(ConnectorsError::Unauthorized(refused(name, host, self.credential.as_ref())).into());
        }
        let code = sent.status.as_u16();
        if matches!(code, 429 | 502..=504) {
            let wait = sent.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Err(status(name, host, code, wait));
        }
        let rendered = self.sender.scrub();
        let answered = answer(name, operation, code, &sent.headers, &sent.body, &rendered.scrubber);
        let credential = match code {
            200..=299 if operation.requires_auth => Verdict::Taken,
            403 => Verdict::NotEnough,
            _ => Verdict::Unsaid,
        };
        Ok(Answered { credential, ..answered })
    }
}
