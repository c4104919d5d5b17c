//! How a session begins: what servers answer to the newest version's question (`server/discover`) and to `initialize`.
//! Read leniently: nothing in these answers guards anything, so what is odd is left out, and rmcp gets what it needs.

use rmcp::model::ProtocolVersion;
use serde_json::{Value, json};

/// The newest version that begins with `initialize`.
pub(super) const LEGACY: ProtocolVersion = ProtocolVersion::V_2025_11_25;

/// The version that is assumed of a server that names none (2025-06-18, transports, protocol version header).
const UNNAMED: &str = "2025-03-26";

/// Code of an error that names the versions that a server supports.
const UNSUPPORTED: &str = "-32022";

/// What was agreed on in the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The version as the server names it: it wants to hear it again with each request.
    pub(super) version: String,
}

/// The answer to `initialize`, as rmcp can read it, and what was agreed on.
pub(super) fn initialized(result: &Value) -> (Value, Agreed) {
    let named = result["protocolVersion"].as_str().filter(|version| {
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !version.is_empty() && version.len() <= 40 && version.bytes().all(usual)
    });
    let version = named.unwrap_or(UNNAMED);
    // What rmcp does not know is spoken to as the newest that it does know with `initialize`.
    let known = ProtocolVersion::KNOWN_VERSIONS.iter().any(|known| known.as_str() == version);
    let spoken = if known { version } else { LEGACY.as_str() };
    let clean = json!({
        "protocolVersion": spoken, "capabilities": { "tools": {} }, "serverInfo": implementation(),
    });
    (clean, Agreed { version: version.to_owned() })
}

/// The answer to `server/discover`, as rmcp can read it, if the server speaks the newest version.
pub(super) fn discovered(result: &Value) -> Option<Value> {
    let newest = ProtocolVersion::V_2026_07_28;
    let speaks = result["supportedVersions"].as_array()?.iter().any(|version| version == newest.as_str());
    speaks.then(|| {
        json!({
            "resultType": "complete", "supportedVersions": [newest.as_str()], "capabilities": { "tools": {} },
            "ttlMs": 0, "cacheScope": "private",
        })
    })
}

/// Whether a refusal of `server/discover` asks for the same question again: it names the version that was asked for.
pub(super) fn asks_again(code: &str, data: Option<&Value>) -> bool {
    let supported = data.and_then(|data| data["supported"].as_array());
    code == UNSUPPORTED
        && supported.is_some_and(|all| all.iter().any(|one| one == ProtocolVersion::V_2026_07_28.as_str()))
}

/// Of a server's own words about itself nothing is handed on: rmcp writes them to its log.
fn implementation() -> Value {
    json!({ "name": "server", "version": "0" })
}

#[cfg(test)]
mod tests {
    use rmcp::model::{DiscoverResult, InitializeResult};

    use super::*;

    #[test]
    fn any_answer_to_initialize_begins_a_session() {
        let whole = json!({
            "protocolVersion": "2025-06-18", "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "n", "version": "1" }, "instructions": "Be kind.",
        });
        let odd = [json!(null), json!([]), json!({}), json!(7), json!("x"), json!([[]]), json!(true)];
        let mut answers = vec![whole.clone(), json!([]), json!(null), json!("ok")];
        for member in ["protocolVersion", "capabilities", "serverInfo", "instructions"] {
            let mut without = whole.clone();
            without.as_object_mut().expect("an object").remove(member);
            answers.push(without);
            for value in &odd {
                let mut changed = whole.clone();
                changed[member] = value.clone();
                answers.push(changed);
            }
            for part in ["name", "version", "tools"] {
                let mut changed = whole.clone();
                changed[member] = json!({ part: [] });
                answers.push(changed);
            }
        }
        for answer in answers {
            let (clean, agreed) = initialized(&answer);
            serde_json::from_value::<InitializeResult>(clean).expect("rmcp reads it");
            assert!(["2025-06-18", UNNAMED, "x"].contains(&agreed.version.as_str()), "{answer}");
        }
    }

    #[test]
    fn a_version_that_nobody_knows_is_said_back_and_spoken_to_as_the_newest_with_initialize() {
        for (named, version, spoken) in [
            ("2024-11-05", "2024-11-05", "2024-11-05"),
            ("2024-10-07", "2024-10-07", "2025-11-25"),
            ("DRAFT-2026-v1", "DRAFT-2026-v1", "2025-11-25"),
            ("9999-12-31", "9999-12-31", "2025-11-25"),
            ("a\r\nb: c", UNNAMED, UNNAMED),
            ("", UNNAMED, UNNAMED),
        ] {
            let (clean, agreed) = initialized(&json!({ "protocolVersion": named }));
            assert_eq!((agreed.version.as_str(), &clean["protocolVersion"]), (version, &json!(spoken)));
        }
    }

    #[test]
    fn only_a_server_that_names_the_newest_version_is_spoken_to_in_it() {
        let newest =
            json!({ "supportedVersions": ["2025-11-25", 7, null, "2026-07-28"], "capabilities": [] });
        let clean = discovered(&newest).expect("speaks it");
        serde_json::from_value::<DiscoverResult>(clean).expect("rmcp reads it");
        for old in [json!({}), json!([]), json!({ "supportedVersions": ["2025-11-25"] }), json!(null)] {
            assert_eq!(discovered(&old), None, "{old}");
        }
        let data = json!({ "supported": ["2026-07-28"] });
        assert!(asks_again("-32022", Some(&data)) && !asks_again("-32601", Some(&data)));
        assert!(!asks_again("-32022", Some(&json!({ "supported": ["2025-06-18"] }))));
    }
}
