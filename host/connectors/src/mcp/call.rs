//! One request of a session that may take its time: a call, with what the server wants while it is under way.

use std::collections::BTreeMap;

use airlock_engine::tools::Conversation;
use rmcp::{
    model::{
        CallToolRequest, CallToolRequestParams, ClientRequest, InputRequest, InputRequiredResult, RequestId,
        RequestMetaObject,
    },
    service::PeerRequestOptions,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    answer,
    client::{Ask, Client, elicit},
    failure::{Failure, Lost},
    open::{Failed, Open},
    patience::Patience,
    told::Told,
};
use crate::protocol::service::Call;

/// A server may ask for input so many times in one call.
const MAX_ROUNDS: usize = 8;

/// What the server wants of a call is heard as long as that is under way.
struct Heard<'a> {
    client: &'a Client,
    ids: [RequestId; 2],
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        let mut calls = self.client.calls.lock();
        for id in &self.ids {
            calls.remove(id);
        }
    }
}

fn parameters(call: &Call<'_>) -> CallToolRequestParams {
    let mut parameters =
        CallToolRequestParams::new(call.tool.to_owned()).with_arguments(call.arguments.clone());
    if let Some(key) = call.idempotency_key {
        let mut meta = RequestMetaObject::default();
        meta.0.0.insert("airlock/idempotency-key".into(), key.into());
        parameters.meta = Some(meta);
    }
    parameters
}

impl Open {
    /// Calls a tool and gives its answer as `{content, metadata}`, not scrubbed.
    pub(super) async fn call(
        &self,
        told: &Told<'_>,
        call: &Call<'_>,
        patience: &mut Patience,
    ) -> Result<Value, Failed> {
        let mut parameters = parameters(call);
        for _ in 0..MAX_ROUNDS {
            let result = self.call_once(told, parameters.clone(), patience, call.conversation).await?;
            // In an older version the word has no meaning.
            if !self.wire.is_newest() || result["resultType"] != "input_required" {
                return Ok(answer::read(result));
            }
            let unreadable = |what: &str| told.failed(&Failure::Unreadable(what.into()), "tools/call");
            let Ok(InputRequiredResult { input_requests, request_state, .. }) =
                serde_json::from_value(result)
            else {
                return Err(unreadable("a wish for input that cannot be read").into());
            };
            let mut answers = BTreeMap::new();
            for (key, request) in input_requests.unwrap_or_default() {
                let InputRequest::Elicitation(request) = request else {
                    return Err(unreadable("a wish for something other than people's input").into());
                };
                let asked = elicit(told.connector, told.host, told.live, request.params, call.conversation);
                let given = patience.during(asked).await;
                answers.insert(key, serde_json::to_value(given).unwrap_or_default());
            }
            parameters.input_responses = Some(answers).filter(|answers| !answers.is_empty());
            parameters.request_state = request_state;
        }
        let what = format!("a wish for input for the {MAX_ROUNDS}th time");
        Err(told.failed(&Failure::Unreadable(what), "tools/call").into())
    }

    /// One request, and what the server wants while it is under way.
    async fn call_once(
        &self,
        told: &Told<'_>,
        parameters: CallToolRequestParams,
        patience: &mut Patience,
        conversation: &dyn Conversation,
    ) -> Result<Value, Failed> {
        let (client, peer) = (self.service.service(), self.service.peer());
        let mut deliveries = self.wire.deliveries();
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(parameters));
        let sent = peer.send_request_with_option(request, PeerRequestOptions::no_options());
        let handle = tokio::time::timeout(patience.rest(), sent)
            .await
            .map_err(|_| told.late(patience.limit))?
            .map_err(|_| self.ended(told))?;
        let (sender, mut asks) = mpsc::unbounded_channel();
        let (id, token) = (handle.id.clone(), handle.progress_token.0.clone());
        client.calls.lock().extend([(id.clone(), sender.clone()), (token.clone(), sender)]);
        let _heard = Heard { client, ids: [id.clone(), token] };
        let mut awaited = self.awaits(&id);
        let response = handle.await_response();
        tokio::pin!(response);
        loop {
            tokio::select! {
                biased;
                _ = &mut response => {
                    awaited.end();
                    return self.outcome(told, &id, "tools/call");
                }
                Some(ask) = asks.recv() => match ask {
                    Ask::Progress(mut state) => {
                        told.live.rendered().scrubber.value(&mut state);
                        conversation.progress(state.into());
                    }
                    Ask::Elicit(request, answer) => {
                        let asked = elicit(told.connector, told.host, told.live, *request, conversation);
                        let given = patience.during(asked).await;
                        // The server may have given up.
                        let _ = answer.send(given);
                    }
                },
                failure = deliveries.fail(&id) => {
                    return Err(told.failed(&failure, "an answer to its question").into());
                }
                () = tokio::time::sleep(patience.rest()) => {
                    return Err(match self.wire.is_taken(&id) {
                        // It may have been taken for a session that is not there any more.
                        true => {
                            let lost = Some(Lost { unreached: false });
                            Failed { trouble: told.silent(patience.limit), lost }
                        }
                        false => told.late(patience.limit).into(),
                    });
                }
            }
        }
    }
}
