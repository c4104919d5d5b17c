//! A form that a client posts with its proof of being that client (RFC 6749 §2.3, RFC 7523 §2.2).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, header};
use secrecy::ExposeSecret;
use url::{
    Url,
    form_urlencoded::{Serializer, byte_serialize},
};
use zeroize::Zeroizing;

use super::{Client, Server, client::Proof, exchange::host, ways::Way};
use crate::ConnectorsError;

/// A request that is ready to be sent.
pub(super) struct Post {
    pub(super) request: Request<Vec<u8>>,
    /// What was signed for it, which must not come back.
    pub(super) assertion: Option<Zeroizing<String>>,
}

/// Makes a request of some fields and the client's proof in one of its [ways](Client::ways).
pub(super) fn post(
    endpoint: &Url,
    server: &Server,
    client: &Client,
    way: Way,
    fields: &[(&str, &str)],
) -> Result<Post, ConnectorsError> {
    let mut form = Serializer::new(String::new());
    form.extend_pairs(fields);
    let mut request = Request::post(endpoint.as_str())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json");
    let mut assertion = None;
    if way != Way::Basic {
        form.append_pair("client_id", &client.id);
    }
    match (way, &client.proof) {
        (Way::Basic | Way::BasicNamed, Proof::Secret(secret)) => {
            // RFC 6749 §2.3.1: both are encoded before they are joined.
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(&client.id), encoded(secret.expose_secret()));
            request = request.header(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)));
        }
        (Way::Post, Proof::Secret(secret)) => {
            form.append_pair("client_secret", secret.expose_secret());
        }
        (Way::PrivateKeyJwt, Proof::PrivateKey(_)) => {
            for (name, value) in client.assertion(server)? {
                form.append_pair(name, &value);
                if name == "client_assertion" {
                    assertion = Some(Zeroizing::new(value));
                }
            }
        }
        // What a client does not hold is no way of it.
        _ => {}
    }
    let request = request.body(form.finish().into_bytes()).map_err(|_| {
        ConnectorsError::Upstream(format!(
            "an endpoint of the authorization server at {} cannot be called",
            host(endpoint)
        ))
    })?;
    Ok(Post { request, assertion })
}
