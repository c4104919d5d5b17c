//! Which of the media types of a body is sent: the one that the caller names, else the first that the value fits.
//!
//! A value fits a media type that can carry it (a list is a JSON Patch, an object a merge patch, fields of a form, parts),
//! that knows all of its fields and gets those that it must have, and whose own schema takes it. A file is never written as
//! JSON where it can be sent as bytes.

use serde_json::{Map, Value, json};

use super::{Media, essence};
use crate::{
    ConnectorsError,
    rest::{
        Body, Choice, Format, Given, Operation, arguments::invalid, document::step, openapi::Kinds,
        schema::compile, upload::Upload,
    },
};

impl Body {
    /// The media type and how it is written.
    pub(super) fn choose<'a>(
        &'a self,
        operation: &Operation,
        arguments: &Map<String, Value>,
        value: &Value,
    ) -> Result<(String, &'a Format), ConnectorsError> {
        let chooser = self.chooser.as_deref().unwrap_or("content_type");
        let chosen = arguments.get(chooser).filter(|value| self.chooser.is_some() && !value.is_null());
        if let Some(chosen) = chosen {
            let named = chosen.as_str().unwrap_or_default();
            let is_named = |choice: &&Choice| choice.media.eq_ignore_ascii_case(named);
            if let Some(choice) = self.choices.iter().find(is_named) {
                return Ok((choice.media.clone(), &choice.format));
            }
            if is_in_range(&self.media, named) {
                return Ok((named.to_owned(), &self.format));
            }
            let message = format!("one of these media types is expected here: {}", self.known());
            return Err(invalid(&[chooser], message));
        }
        let (media, format) = match self.fitting(operation, value) {
            Some(choice) => (choice.media.clone(), &choice.format),
            None => (self.media.clone(), &self.format),
        };
        let said = match format {
            Format::Bytes => Upload::of(value).and_then(Upload::media),
            _ => None,
        };
        match said {
            Some(said) if self.media.contains('*') && is_in_range(&self.media, said) => {
                Ok((said.to_owned(), format))
            }
            _ if self.media.contains('*') => {
                Err(invalid(&[chooser], format!("say which of {} the body is", self.media)))
            }
            Some(said) if essence(said) != essence(&media) => {
                let is_said = |choice: &&Choice| {
                    choice.format == Format::Bytes && essence(&choice.media) == essence(said)
                };
                if let Some(choice) = self.choices.iter().find(is_said) {
                    return Ok((choice.media.clone(), &choice.format));
                }
                // Bytes of any kind are bytes.
                if essence(&media) == "application/octet-stream" {
                    return Ok((media, format));
                }
                let mut steps: Vec<&str> = match &self.given {
                    Given::Whole(argument) => vec![argument],
                    Given::Fields { .. } => Vec::new(),
                };
                steps.push("content_type");
                let message = format!("one of these media types is expected here: {}", self.known());
                Err(invalid(&steps, message))
            }
            _ => Ok((media, format)),
        }
    }

    /// Its media types, for a message.
    fn known(&self) -> String {
        let known: Vec<_> = self.choices.iter().map(|choice| choice.media.as_str()).collect();
        if known.is_empty() { self.media.clone() } else { known.join(", ") }
    }

    fn fitting(&self, operation: &Operation, value: &Value) -> Option<&Choice> {
        let all = |is: &dyn Fn(&Choice) -> bool| self.choices.iter().filter(|choice| is(choice)).collect();
        let groups: [Vec<&Choice>; 3] = [
            all(&|choice| choice.takes_all(value, self)),
            all(&|choice| choice.takes_files(value, self)),
            all(&|choice| choice.takes(value)),
        ];
        let first = groups.into_iter().find(|group| !group.is_empty())?;
        if first.len() > 1 && first.iter().any(|choice| !choice.alternatives.is_empty()) {
            let schema = operation.check_schema.as_ref().unwrap_or(&operation.input_schema);
            let schema: Value = serde_json::from_str(schema.get()).unwrap_or_default();
            if let Some(fitting) = first.iter().find(|choice| choice.fits(&schema, &self.given, value)) {
                return Some(fitting);
            }
        }
        first.first().copied()
    }

    /// Whether there are parts in which a field is a file, or, for no field, bytes for the whole body.
    fn takes_file(&self, field: Option<&str>) -> bool {
        self.choices.iter().any(|choice| match field {
            Some(name) => choice.format.file(name).is_some(),
            None => choice.format == Format::Bytes,
        })
    }
}

impl Choice {
    /// Whether values of this type can be written so.
    fn takes(&self, value: &Value) -> bool {
        let carried = match (&self.format, Media::of(&self.media)) {
            (Format::Bytes, _) if Upload::of(value).is_some() => return true,
            (Format::Bytes | Format::Text, _) => Kinds::STRING,
            (Format::Form { .. } | Format::Multipart { .. }, _) | (_, Media::Merge) => Kinds::OBJECT,
            (_, Media::Patch) => Kinds::ARRAY,
            _ => Kinds::ALL,
        };
        Kinds(self.kinds & carried.0).has(Kinds::of(value))
    }

    /// Whether it knows everything that is given, and is given all that it needs.
    fn takes_all(&self, value: &Value, body: &Body) -> bool {
        self.takes(value)
            && !self.is_lossy(value, body)
            && value.as_object().is_none_or(|fields| {
                self.format == Format::Bytes
                    || fields.keys().all(|name| self.names.contains(name) || self.format.file(name).is_some())
                        && self.required.iter().all(|name| fields.contains_key(name))
            })
    }

    /// Whether a file would be written as something else, which could be sent as bytes.
    fn is_lossy(&self, value: &Value, body: &Body) -> bool {
        let is_whole = |upload: Upload<'_>| upload.is_sure() && body.takes_file(None);
        if self.format != Format::Bytes
            && !self.names.contains("data")
            && Upload::of(value).is_some_and(is_whole)
        {
            return true;
        }
        let is_file = |name: &str, value: &Value| {
            Upload::of(value).is_some_and(|upload| {
                let is_said = upload.filename.is_some() || upload.content_type.is_some();
                is_said || upload.is_sure() && body.takes_file(Some(name))
            })
        };
        !matches!(self.format, Format::Multipart { .. } | Format::Bytes)
            && value.as_object().into_iter().flatten().any(|(name, value)| {
                let mut items = value.as_array().into_iter().flatten();
                !self.data.contains(name) && (is_file(name, value) || items.any(|item| is_file(name, item)))
            })
    }

    /// Whether one of the fields is a file here, and nothing that the first choice knows.
    fn takes_files(&self, value: &Value, body: &Body) -> bool {
        let Some(first) = body.choices.first().filter(|_| matches!(self.format, Format::Multipart { .. }))
        else {
            return false;
        };
        let is_new = |name: &String| self.format.file(name).is_some() && !first.names.contains(name);
        self.takes(value)
            && value
                .as_object()
                .is_some_and(|fields| fields.keys().any(is_new) || first.is_lossy(value, body))
    }

    /// Whether a value is what this media type's own schema says, where the media types have different ones.
    fn fits(&self, schema: &Value, given: &Given, value: &Value) -> bool {
        let own = self.alternatives.iter().filter_map(|(argument, index)| {
            let value = match given {
                Given::Whole(_) => value,
                Given::Fields { .. } => value.get(argument)?,
            };
            let place = format!("/properties/{}/anyOf/{index}", step(argument));
            Some((argument.clone(), schema.pointer(&place)?.clone(), value.clone()))
        });
        let own: Vec<_> = own.collect();
        let properties: Map<_, _> =
            own.iter().map(|(name, schema, _)| (name.clone(), schema.clone())).collect();
        let values: Map<_, _> = own.into_iter().map(|(name, _, value)| (name, value)).collect();
        let definitions = schema.get("$defs").cloned().unwrap_or_else(|| json!({}));
        let check = compile(&json!({ "$defs": definitions, "properties": properties }));
        check.is_none_or(|check| check.is_valid(&values.into()))
    }
}

/// Whether a media type is one of `image/*`.
fn is_in_range(range: &str, media: &str) -> bool {
    let is_token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    match (range.split_once('/'), media.split_once('/')) {
        (Some((kind, "*")), Some((own, rest))) => own.eq_ignore_ascii_case(kind) && is_token(rest),
        _ => false,
    }
}
