//! What `airlock connectors add --auth` takes. The help, the parser and the refusal are made from one table.

use std::{fmt, str::FromStr};

use serde_json::{Value, json};

use crate::ended::Misuse;

/// How one authenticates at a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Auth {
    /// What the server or the document says.
    Auto,
    /// Nothing is needed.
    None,
    /// A token, or headers.
    Bearer,
    /// User and password.
    Basic,
    /// A person authorises in a browser.
    Oauth2,
    /// API keys that are needed together: where each goes, and under which name.
    Keys(Vec<(&'static str, String)>),
}

/// How it is written, what that means, and what is made of the name in it.
type Form = (&'static str, &'static str, fn(&str) -> Auth);

/// What can be written, and what it means. `NAME` stands for a name.
const FORMS: [Form; 8] = [
    ("auto", "what the server or the document says", |_| Auth::Auto),
    ("none", "nothing is needed", |_| Auth::None),
    ("bearer", "a token, or headers that a credential brings", |_| Auth::Bearer),
    ("basic", "user and password", |_| Auth::Basic),
    ("oauth2", "a person authorises in a browser", |_| Auth::Oauth2),
    ("header:NAME", "an API key in this header", |name| Auth::Keys(vec![("header", name.into())])),
    ("query:NAME", "an API key in this parameter of the query", |name| {
        Auth::Keys(vec![("query", name.into())])
    }),
    ("cookie:NAME", "an API key in this cookie", |name| Auth::Keys(vec![("cookie", name.into())])),
];

impl Auth {
    /// For `--help`.
    pub(crate) fn help() -> String {
        let forms = FORMS.iter().map(|(form, about, _)| format!("{form} ({about})"));
        let forms = forms.collect::<Vec<_>>().join(", ");
        format!("How one authenticates: {forms}. API keys that are needed together with commas between them")
    }

    /// The method on the wire; none for what the server says.
    pub(crate) fn wire(self, client_id: Option<String>, scopes: Vec<String>) -> Option<Value> {
        let plain = |word: &str| json!({ "method_type": word });
        Some(match self {
            Self::Auto => return None,
            Self::None => plain("none"),
            Self::Bearer => plain("bearer"),
            Self::Basic => plain("basic"),
            Self::Oauth2 => {
                let mut method = plain("oauth2");
                method["auth_data"] = json!({ "client_scopes": scopes });
                if let Some(id) = client_id {
                    method["auth_data"]["client_id"] = id.into();
                    method["auth_data"]["client_secret"] = json!(std::env::var("AIRLOCK_CLIENT_SECRET").ok());
                }
                method
            }
            Self::Keys(keys) => match keys.as_slice() {
                [(place, name)] => json!({ "method_type": "api_key", "in": place, "name": name }),
                keys => {
                    let key = |(place, name): &(&str, String)| json!({ "in": place, "name": name });
                    json!({ "method_type": "api_key", "keys": keys.iter().map(key).collect::<Vec<_>>() })
                }
            },
        })
    }
}

impl FromStr for Auth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let made = FORMS.iter().find_map(|(form, _, make)| match form.strip_suffix("NAME") {
            Some(place) => text.strip_prefix(place).filter(|name| !name.trim().is_empty()).map(make),
            None => (*form == text).then(|| make("")),
        });
        let joined = || {
            let parts = text.split(',').map(|part| match part.trim().parse() {
                Ok(Self::Keys(key)) => Some(key),
                _ => None,
            });
            parts.collect::<Option<Vec<_>>>().map(|keys| Self::Keys(keys.concat()))
        };
        let made = if text.contains(',') { joined() } else { made };
        made.ok_or_else(|| {
            let forms: Vec<&str> = FORMS.iter().map(|(form, ..)| *form).collect();
            format!("use one of {}", forms.join(", "))
        })
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys(keys) => {
                let keys: Vec<String> = keys.iter().map(|(place, name)| format!("{place}:{name}")).collect();
                f.write_str(&keys.join(","))
            }
            word => {
                let found = FORMS.iter().find(|(_, _, make)| make("") == *word);
                f.write_str(found.map_or("", |(form, ..)| form))
            }
        }
    }
}

/// Which flags about OAuth were given.
#[derive(Default)]
pub(crate) struct OfOauth {
    pub(crate) client_id: bool,
    pub(crate) scope: bool,
    pub(crate) metadata: bool,
    pub(crate) issuer: bool,
    pub(crate) resource: bool,
}

impl OfOauth {
    /// Flags that the way to authenticate has no use for would be passed over without a word.
    pub(crate) fn check(&self, auth: &Auth) -> Result<(), Misuse> {
        let may_be_found_out = matches!(auth, Auth::Auto);
        let flags = [
            (self.client_id, "--client-id", false),
            (self.scope, "--scope", false),
            (self.metadata, "--oauth-metadata", may_be_found_out),
            (self.issuer, "--oauth-issuer", may_be_found_out),
            (self.resource, "--oauth-resource", may_be_found_out),
        ];
        let wrong = flags.into_iter().find(|(given, _, fits)| *given && !fits && *auth != Auth::Oauth2);
        match wrong {
            None => Ok(()),
            Some((_, flag, _)) if may_be_found_out => {
                Err(Misuse(format!("{flag} is about OAuth: give --auth oauth2 as well")))
            }
            Some((_, flag, _)) => Err(Misuse(format!(
                "{flag} is about OAuth, and --auth {auth} is not: give --auth oauth2, or leave {flag} out"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_help_names_is_taken_and_is_itself_again() {
        for (form, about, _) in FORMS {
            assert!(Auth::help().contains(&format!("{form} ({about})")));
            let written = form.replace("NAME", "X-Key");
            let read: Auth = written.parse().expect("is taken");
            assert_eq!(read.to_string(), written);
        }
        let two: Auth = "header:X-Id, query:key".parse().expect("is taken");
        assert_eq!(two.to_string(), "header:X-Id,query:key");
        for bad in
            ["api_key", "header", "header:", "query: ", "Bearer", "token:X", "", "header:X,bearer", ","]
        {
            let refused = bad.parse::<Auth>().expect_err("is refused");
            assert!(refused.contains("header:NAME"), "{bad}: {refused}");
        }
    }

    #[test]
    fn a_flag_about_oauth_is_refused_where_it_would_be_passed_over() {
        let given = [
            ("--client-id", OfOauth { client_id: true, ..OfOauth::default() }),
            ("--scope", OfOauth { scope: true, ..OfOauth::default() }),
            ("--oauth-metadata", OfOauth { metadata: true, ..OfOauth::default() }),
            ("--oauth-issuer", OfOauth { issuer: true, ..OfOauth::default() }),
            ("--oauth-resource", OfOauth { resource: true, ..OfOauth::default() }),
        ];
        for (number, (flag, of_oauth)) in given.iter().enumerate() {
            for auth in ["none", "bearer", "basic", "header:X-Key"] {
                let refused = of_oauth.check(&auth.parse().expect("is taken")).expect_err("is refused");
                let says = format!("{flag} is about OAuth, and --auth {auth} is not: give --auth oauth2");
                assert!(refused.0.starts_with(&says), "{}", refused.0);
            }
            assert!(of_oauth.check(&Auth::Oauth2).is_ok());
            // A client belongs to a server that is known; the others help to find one.
            assert_eq!(of_oauth.check(&Auth::Auto).is_ok(), number > 1, "{flag}");
        }
        assert!(OfOauth::default().check(&Auth::Bearer).is_ok());
    }

    #[test]
    fn on_the_wire_it_is_a_method() {
        let wire = |text: &str| text.parse::<Auth>().expect("is taken").wire(None, Vec::new());
        assert_eq!(wire("auto"), None);
        assert_eq!(wire("basic"), Some(json!({ "method_type": "basic" })));
        assert_eq!(
            wire("query:key"),
            Some(json!({ "method_type": "api_key", "in": "query", "name": "key" }))
        );
        let keys = json!([{ "in": "header", "name": "X-Id" }, { "in": "cookie", "name": "sid" }]);
        assert_eq!(wire("header:X-Id,cookie:sid"), Some(json!({ "method_type": "api_key", "keys": keys })));
        let oauth = json!({ "method_type": "oauth2", "auth_data": { "client_scopes": [] } });
        assert_eq!(wire("oauth2"), Some(oauth));
    }
}
