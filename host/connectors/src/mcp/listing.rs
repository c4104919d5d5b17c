//! A server's list of tools, read tool by tool and member by member: one odd tool costs itself at most. What is left out is
//! noted with its reason.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::nesting::is_deeper;
use crate::{egress::scrub::Scrubber, protocol::tools::LeftOut};

/// A server may name so many tools (THREATS row 22).
pub(super) const MAX_TOOLS: usize = 2_000;

/// So many notes are kept; a list that is odd throughout is noted as that.
const MAX_NOTES: usize = 50;

/// Names are part of addresses, headers and rules.
const MAX_NAME: usize = 256;

/// Levels of a schema, and of what else belongs to a tool: what is deeper is not looked at by anybody.
const DEEPEST: usize = 64;

/// A list that is being read, page by page.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) tools: Vec<Value>,
    left_out: Vec<LeftOut>,
    /// Why there is no more of it.
    early: Option<LeftOut>,
    /// Notes that were not kept.
    more: usize,
    cursors: HashSet<String>,
    /// Tools that were looked at.
    seen: usize,
}

/// What is asked for next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Page(String),
    End,
}

impl Listing {
    /// Takes a page, and says whether there is another.
    pub(super) fn page(&mut self, mut page: Value, scrubber: &Scrubber) -> Next {
        let cursor = page.get_mut("nextCursor").map(Value::take).unwrap_or_default();
        let tools = match page.is_array() {
            true => page,
            false => page.get_mut("tools").map(Value::take).unwrap_or_default(),
        };
        match tools {
            Value::Array(tools) => tools.into_iter().for_each(|tool| self.tool(tool, None, scrubber)),
            Value::Object(tools) => {
                tools.into_iter().for_each(|(name, tool)| self.tool(tool, Some(name), scrubber));
            }
            _ => self.note("the list".into(), "the answer has no list called 'tools'"),
        }
        if self.tools.len() > MAX_TOOLS {
            self.tools.truncate(MAX_TOOLS);
            self.ends_early("the rest".into(), &format!("there are more than {MAX_TOOLS} tools"));
            return Next::End;
        }
        match cursor {
            Value::Null => Next::End,
            // An empty text is a cursor as well (2026-07-28, pagination).
            Value::String(cursor) if self.cursors.insert(cursor.clone()) => Next::Page(cursor),
            Value::String(_) => {
                self.ends_early(
                    "what may follow".into(),
                    "the server named the same cursor (nextCursor) twice",
                );
                Next::End
            }
            _ => {
                self.ends_early("what may follow".into(), "'nextCursor' is no text");
                Next::End
            }
        }
    }

    fn tool(&mut self, mut tool: Value, key: Option<String>, scrubber: &Scrubber) {
        if self.tools.len() > MAX_TOOLS {
            return;
        }
        scrubber.value(&mut tool);
        self.seen += 1;
        let number = self.seen;
        let Value::Object(mut tool) = tool else {
            return self.note(format!("tool {number}"), "it is no object");
        };
        let name = match tool.remove("name") {
            None | Some(Value::Null) => key.map(|key| scrubber.text(&key).into_owned()),
            Some(Value::String(name)) => Some(name),
            Some(_) => None,
        };
        let Some(name) = name.filter(|name| !name.trim().is_empty()) else {
            return self.note(format!("tool {number}"), "it has no name");
        };
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let reason = format!("its name is longer than {MAX_NAME} bytes or holds control characters");
            return self.note(shown(&name), &reason);
        }
        let mut read = Map::new();
        read.insert("name".into(), name.clone().into());
        for (member, value) in tool.into_iter().filter(|(_, value)| !value.is_null()) {
            if is_deeper(&value, DEEPEST) {
                self.note_member(&name, &member, &format!("it is nested deeper than {DEEPEST} levels"));
                continue;
            }
            let whole = match member.as_str() {
                "title" | "description" => value.is_string().then_some(value),
                "inputSchema" | "outputSchema" | "execution" | "_meta" => value.is_object().then_some(value),
                "annotations" => self.annotations(&name, value),
                "icons" => self.icons(&name, value),
                // Nobody here knows what it means.
                _ => continue,
            };
            match whole {
                Some(whole) => drop(read.insert(member, whole)),
                None if member != "inputSchema" => {
                    self.note_member(&name, &member, "it is not of the type that it should be")
                }
                None => {}
            }
        }
        if !read.contains_key("inputSchema") {
            self.note_member(&name, "inputSchema", "it is no object: any arguments are let through");
            read.insert("inputSchema".into(), json!({ "type": "object" }));
        }
        let read = Value::Object(read);
        match self.tools.iter().find(|known| known["name"] == read["name"]) {
            // The page came twice.
            Some(known) if *known == read => {}
            Some(_) => self.note(shown(&name), "a tool of this name stands before it"),
            None => self.tools.push(read),
        }
    }

    /// Hints decide what may be called: one that is not plainly true or false is no hint.
    fn annotations(&mut self, name: &str, value: Value) -> Option<Value> {
        let Value::Object(annotations) = value else { return None };
        let mut read = Map::new();
        for (member, value) in annotations {
            let fits = match member.as_str() {
                "title" => value.is_string(),
                "readOnlyHint" | "destructiveHint" | "idempotentHint" | "openWorldHint" => value.is_boolean(),
                _ => continue,
            };
            match fits {
                true => drop(read.insert(member, value)),
                false if value.is_null() => {}
                false => self.note_member(
                    name,
                    &format!("annotations.{member}"),
                    "it is not of the type that it should be",
                ),
            }
        }
        Some(Value::Object(read))
    }

    fn icons(&mut self, name: &str, value: Value) -> Option<Value> {
        let Value::Array(icons) = value else { return None };
        let count = icons.len();
        let icons: Vec<Value> = icons.into_iter().filter(|icon| icon["src"].is_string()).collect();
        if icons.is_empty() && count > 0 {
            return None;
        }
        if icons.len() < count {
            self.note_member(name, "icons", "some have no 'src'");
        }
        Some(Value::Array(icons))
    }

    /// In the newest version a schema may ask for arguments in headers. Tools that ask for it wrongly are not to be called
    /// (2026-07-28, transports); rmcp has kept the others.
    pub(super) fn without_wrong_headers(&mut self, kept: &HashSet<String>) {
        let is_wrong = |tool: &Value| {
            !tool["name"].as_str().is_some_and(|name| kept.contains(name))
                && serde_json::from_value::<rmcp::model::Tool>(tool.clone()).is_ok()
        };
        let (wrong, right) = std::mem::take(&mut self.tools).into_iter().partition(is_wrong);
        self.tools = right;
        let wrong: Vec<Value> = wrong;
        for tool in &wrong {
            let name = shown(tool["name"].as_str().unwrap_or_default());
            self.note(name, "its 'x-mcp-header' annotations are not as they should be");
        }
    }

    fn note(&mut self, what: String, reason: &str) {
        if self.left_out.len() < MAX_NOTES {
            self.left_out.push(LeftOut { what, reason: reason.to_owned() });
        } else {
            self.more += 1;
        }
    }

    /// Notes that there is no more of the list than this, however much else was noted.
    pub(super) fn ends_early(&mut self, what: String, reason: &str) {
        self.early = Some(LeftOut { what, reason: reason.to_owned() });
    }

    fn note_member(&mut self, tool: &str, member: &str, reason: &str) {
        self.note(format!("{member} of {}", shown(tool)), reason);
    }

    /// The list, and what was left out of it.
    pub(super) fn end(mut self) -> (Vec<Value>, Vec<LeftOut>) {
        let early = self.early.take();
        // What is not there at all comes first.
        self.left_out.splice(0..0, early);
        if self.more > 0 {
            let what = format!("{} more", self.more);
            self.left_out.push(LeftOut { what, reason: "for reasons like these".into() });
        }
        (self.tools, self.left_out)
    }
}

/// A name as it may be shown: short, on one line.
fn shown(name: &str) -> String {
    let short: String = name.chars().filter(|char| !char.is_control()).take(80).collect();
    format!("'{short}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tools: Value) -> (Vec<Value>, Vec<String>) {
        let mut listing = Listing::default();
        listing.page(json!({ "tools": tools }), &Scrubber::default());
        let (tools, left_out) = listing.end();
        (tools, left_out.into_iter().map(|left| format!("{}: {}", left.what, left.reason)).collect())
    }

    fn whole(name: &str) -> Value {
        json!({
            "name": name, "title": "T", "description": "D", "inputSchema": { "type": "object" },
            "outputSchema": { "type": "object" }, "annotations": { "title": "T", "readOnlyHint": true },
            "icons": [{ "src": "https://x.test/i.png" }], "execution": { "taskSupport": "optional" }, "_meta": {},
        })
    }

    #[test]
    fn every_member_of_a_tool_may_be_anything_and_the_other_tools_stay() {
        let values = [
            json!(null),
            json!(true),
            json!(7),
            json!(""),
            json!("x"),
            json!([]),
            json!({}),
            json!([[]]),
            json!({ "readOnlyHint": "true" }),
            json!("x".repeat(100_000)),
            json!([null, 7, { "url": "x" }]),
        ];
        let members: Vec<String> = whole("a").as_object().expect("an object").keys().cloned().collect();
        for member in members {
            for value in values.iter().cloned().map(Some).chain([None]) {
                let mut odd = whole("odd");
                match &value {
                    Some(value) => odd[&member] = value.clone(),
                    None => drop(odd.as_object_mut().expect("an object").remove(&member)),
                }
                let (tools, left_out) = read(json!([whole("first"), odd, whole("last")]));
                let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
                assert!(names.contains(&"first") && names.contains(&"last"), "{member}: {value:?}");
                assert!(names.len() == 3 || member == "name", "{member}: {value:?}");
                if names.len() == 2 {
                    assert_eq!(left_out.len(), 1, "what is left out is noted");
                }
                for tool in &tools {
                    assert!(tool["inputSchema"].is_object());
                    let hint = &tool["annotations"]["readOnlyHint"];
                    assert!(hint.is_null() || hint.is_boolean(), "a hint is true, false or none");
                    serde_json::from_value::<rmcp::model::Tool>(tool.clone()).expect("rmcp can read it");
                }
            }
        }
    }

    #[test]
    fn what_is_left_out_is_named_with_its_reason() {
        let (tools, left_out) = read(json!([
            7,
            { "description": "no name" },
            { "name": "a" },
            { "name": "a", "inputSchema": {} },
            { "name": "a\nb" },
            { "name": "b", "inputSchema": {}, "annotations": [], "icons": [{ "url": "x" }], "title": null },
        ]));
        assert_eq!(tools.len(), 2);
        assert_eq!(
            left_out,
            [
                "tool 1: it is no object",
                "tool 2: it has no name",
                "inputSchema of 'a': it is no object: any arguments are let through",
                "'a': a tool of this name stands before it",
                "'ab': its name is longer than 256 bytes or holds control characters",
                "annotations of 'b': it is not of the type that it should be",
                "icons of 'b': it is not of the type that it should be",
            ]
        );
    }

    #[test]
    fn a_list_is_found_where_it_is_and_none_is_noted() {
        for page in
            [json!([{ "name": "a", "inputSchema": {} }]), json!({ "tools": { "a": { "inputSchema": {} } } })]
        {
            let mut listing = Listing::default();
            assert_eq!(listing.page(page, &Scrubber::default()), Next::End);
            let (tools, left_out) = listing.end();
            assert_eq!((tools[0]["name"].as_str(), left_out.len()), (Some("a"), 0));
        }
        for page in [json!(null), json!({}), json!({ "tools": null }), json!({ "tools": "x" }), json!("x")] {
            let mut listing = Listing::default();
            assert_eq!(listing.page(page, &Scrubber::default()), Next::End);
            assert_eq!(listing.end().1.len(), 1);
        }
    }

    #[test]
    fn a_cursor_that_comes_twice_ends_the_list_with_what_there_is() {
        let page = |name: &str, cursor: Value| json!({ "tools": [{ "name": name, "inputSchema": {} }], "nextCursor": cursor });
        let nothing = Scrubber::default();
        let mut listing = Listing::default();
        assert_eq!(
            listing.page(page("a", json!("")), &nothing),
            Next::Page(String::new()),
            "empty is a cursor"
        );
        assert_eq!(listing.page(page("b", json!("2")), &nothing), Next::Page("2".into()));
        assert_eq!(listing.page(page("c", json!("")), &nothing), Next::End);
        let (tools, left_out) = listing.end();
        assert_eq!((tools.len(), left_out.len()), (3, 1));
        for cursor in [json!(7), json!({}), json!([]), json!(false)] {
            let mut listing = Listing::default();
            assert_eq!(listing.page(page("a", cursor), &nothing), Next::End);
            assert_eq!(listing.end().1.len(), 1);
        }
    }

    #[test]
    fn a_list_without_end_is_kept_up_to_the_limit() {
        let many: Vec<Value> =
            (0..MAX_TOOLS + 10).map(|n| json!({ "name": format!("t{n}"), "inputSchema": {} })).collect();
        let (tools, left_out) = read(Value::from(many));
        assert_eq!((tools.len(), left_out.len()), (MAX_TOOLS, 1));
        let odd: Vec<Value> = (0..500).map(|_| json!(7)).collect();
        assert_eq!(read(Value::from(odd)).1.len(), MAX_NOTES + 1);
    }

    #[test]
    fn row_19_a_secret_in_a_tool_is_scrubbed_also_from_what_is_left_out() {
        let mut scrubber = Scrubber::default();
        scrubber.add("a-secret-of-mine");
        let mut listing = Listing::default();
        let tools = json!({ "tools": [
            { "name": "a", "description": "a-secret-of-mine", "inputSchema": {} },
            { "name": "a-secret-of-mine\n" }, { "name": "a-secret-of-mine", "annotations": 7 },
        ] });
        listing.page(tools, &scrubber);
        let told = format!("{:?}", listing.end());
        assert!(!told.contains("a-secret-of-mine") && told.contains("[REDACTED]"), "{told}");
    }
}
