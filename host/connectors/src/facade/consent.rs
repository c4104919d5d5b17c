//! Authorising in a browser, for the API's pages.

use airlock_engine::Principal;
use async_recursion::async_recursion as boxed;
use http::HeaderMap;
use serde_json::Value;

use super::Connectors;
use crate::{
    ConnectorsError,
    authorization::consent::{Arrival, Departure, Problem, Purpose, Returned, Wanted},
};

impl Connectors {
    /// `AuthURLResponse`: a link that lets the caller authorise in a browser, good for ten minutes.
    #[boxed]
    pub async fn auth_url<'a>(
        &self,
        who: &Principal,
        connector: &str,
        wanted: Wanted<'a>,
    ) -> Result<Value, ConnectorsError>
    where
        'a: 'async_recursion,
    {
        let connector = self.0.registry.find(who, connector)?;
        self.0.authorization.auth_url(who, &connector, wanted).await
    }

    /// What a link is for.
    pub fn purpose(&self, id: &str) -> Result<Purpose, Problem> {
        self.0.authorization.purpose(id)
    }

    /// airlock as an OAuth client, if authorization servers can read about it.
    pub fn client_document(&self) -> Option<Value> {
        self.0.authorization.client_document()
    }

    /// Whether browsers reach the pages over TLS, so that their cookies may say so.
    pub fn are_pages_secure(&self) -> bool {
        self.0.authorization.is_secure()
    }

    /// Opens a link in a browser.
    pub fn depart(&self, id: &str, headers: &HeaderMap) -> Result<Departure, Problem> {
        self.0.authorization.depart(id, headers)
    }

    /// Takes a browser that came back: exchanges its code, and stores the credential under the name that was asked for.
    #[boxed]
    pub async fn arrive(&self, returned: Returned, headers: &HeaderMap) -> Arrival {
        self.0.authorization.arrive(returned, headers).await
    }
}
