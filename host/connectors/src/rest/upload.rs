//! A file as callers give it: base64, alone or with what is known of it.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

use super::{Format, schema::matches};

/// `{"data": "aGVsbG8=", "filename": "hello.png", "content_type": "image/png"}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upload<'a> {
    pub(super) data: &'a str,
    pub(super) filename: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
}

impl<'a> Upload<'a> {
    /// An object that has bytes and nothing that a file has not.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        let fields = value.as_object()?;
        let is_known = |name: &String| ["data", "filename", "content_type"].contains(&name.as_str());
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        fields.keys().all(is_known).then_some(())?;
        Some(Self { data: text("data")?, filename: text("filename"), content_type: text("content_type") })
    }

    /// Whether it can be nothing but a file: it says more than its data, or its data are base64.
    pub(super) fn is_sure(self) -> bool {
        self.filename.is_some() || self.content_type.is_some() || decoded(self.data).is_some()
    }

    /// The media type that it is said to have.
    pub(super) fn media(self) -> Option<&'a str> {
        let of_data = || self.data.strip_prefix("data:")?.split_once(";base64,").map(|(media, _)| media);
        self.content_type.or_else(of_data).filter(|media| !media.is_empty())
    }
}

/// Bytes from base64 of either alphabet, with line breaks and without padding as well, or from a `data:` address, with the
/// media type that it names.
pub(super) fn decoded(text: &str) -> Option<(Vec<u8>, Option<String>)> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    let (media, text) = match text.strip_prefix("data:").and_then(|rest| rest.split_once(',')) {
        Some((about, text)) => {
            let media = about.strip_suffix(";base64")?;
            (Some(media.to_owned()).filter(|media| !media.is_empty()), text)
        }
        None => (None, text),
    };
    let plain = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    });
    Some((ENGINE.decode(plain.collect::<Vec<u8>>()).ok()?, media))
}

/// What a field that may be a file may be beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// A text stands for itself.
    pub(super) texts: bool,
    /// What is neither a text nor a file is written as JSON.
    pub(super) composed: bool,
}

impl Format {
    /// Whether a field of this name is a file, and what else it may be.
    pub(super) fn file(&self, name: &str) -> Option<Field> {
        let Self::Multipart { files, texts, composed, unnamed, .. } = self else { return None };
        if files.contains(name) {
            return Some(Field { texts: texts.contains(name), composed: composed.contains(name) });
        }
        let unnamed = unnamed.as_ref().filter(|unnamed| !unnamed.known.contains(name))?;
        let is_meant = |pattern: &String| matches(pattern, name).unwrap_or(true);
        let is_file = unnamed.patterns.is_empty() || unnamed.patterns.iter().any(is_meant);
        is_file.then_some(Field { texts: unnamed.texts, composed: unnamed.composed })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_has_data_and_nothing_that_a_file_has_not() {
        for (value, is_file, is_sure) in [
            (json!({ "data": "aGVsbG8=" }), true, true),
            (json!({ "data": "not base64!" }), true, false),
            (json!({ "data": "not base64!", "filename": "a" }), true, true),
            (json!({ "data": "aGVsbG8=", "kind": "a" }), false, false),
            (json!({ "data": { "a": 1 } }), false, false),
            (json!({ "filename": "a" }), false, false),
            (json!("aGVsbG8="), false, false),
        ] {
            let upload = Upload::of(&value);
            assert_eq!(upload.is_some(), is_file, "{value}");
            assert_eq!(upload.is_some_and(Upload::is_sure), is_sure, "{value}");
        }
        let media = |value: Value| Upload::of(&value).and_then(Upload::media).map(str::to_owned);
        assert_eq!(media(json!({ "data": "data:image/gif;base64,eA==" })).as_deref(), Some("image/gif"));
        assert_eq!(media(json!({ "data": "eA==", "content_type": "a/b" })).as_deref(), Some("a/b"));
        assert_eq!(media(json!({ "data": "eA==" })), None);
    }
}
