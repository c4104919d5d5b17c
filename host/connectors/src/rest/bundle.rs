//! A document in several files becomes one.
//!
//! Each file that a `$ref` names is put whole under [`FILES`] of the first, once, and the references lead there; circles of
//! files are circles of references. Nothing here reads a file or a socket: a [`Bundle`] says which file it wants next and is
//! given it, or the reason why not, so the command line reads beside the document and the daemon fetches from its origin.
//! Which files there may be is decided here: below a folder, or of one origin, so many, so many bytes, so far from the
//! first (THREATS rows 3, 8 and 22). What cannot be had is named under [`MISSING`], and the import says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use url::Url;

use super::{
    document::{self, MAX_BYTES},
    held::Held,
    reference::{FILES, MISSING, REMARKS, address, fragment, step},
};
use crate::{ConnectorsError, error::wording::short};

/// Files of one document.
const MAX_FILES: usize = 500;

/// Files that lead to files.
const MAX_HOPS: usize = 50;

/// Levels in a file: it stands two levels deeper in the whole.
const MAX_DEPTH: usize = document::MAX_DEPTH - 3;

/// Where the first file of a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Its path in a folder, which no reference may leave. Segments are separated by `/`.
    Folder(String),
    /// Its address: references may lead anywhere at its origin.
    Address(Url),
}

/// Puts the files of a document together.
///
/// Ask what is [`wanted`](Bundle::wanted) and [`give`](Bundle::give) it until nothing is, then [`finish`](Bundle::finish).
pub struct Bundle {
    origin: Origin,
    first: String,
    root: Value,
    /// What the first file consisted of, to be left as it is when it refers to no other.
    original: Vec<u8>,
    files: BTreeMap<String, Value>,
    missing: BTreeMap<String, String>,
    queue: VecDeque<(String, usize)>,
    known: BTreeSet<String>,
    bytes: usize,
    /// What they take in memory.
    held: Held,
    /// What was guessed when they were read.
    remarks: Vec<Value>,
}

impl Bundle {
    /// Begins with the first file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(document: Vec<u8>, origin: Origin) -> Result<Self, ConnectorsError> {
        let (root, remarks) = document::read(&document)?;
        let held = remarks.held;
        let first = match &origin {
            Origin::Folder(path) => path.clone(),
            Origin::Address(url) => without_fragment(url),
        };
        let mut bundle = Self {
            origin,
            known: BTreeSet::from([first.clone()]),
            first: first.clone(),
            bytes: document.len(),
            held,
            original: document,
            root: Value::Null,
            files: BTreeMap::new(),
            missing: BTreeMap::new(),
            queue: VecDeque::new(),
            remarks: remarks.into_texts().into_iter().map(Value::from).collect(),
        };
        bundle.root = bundle.taken_in(root, &first, 0);
        Ok(bundle)
    }

    /// The next file that is wanted, and how many bytes it may have: its path in the folder, or its address.
    pub fn wanted(&self) -> Option<(&str, usize)> {
        self.queue.front().map(|(name, _)| (name.as_str(), MAX_BYTES.saturating_sub(self.bytes)))
    }

    /// Gives what was wanted, or says why it cannot be had.
    pub fn give(&mut self, file: Result<Vec<u8>, String>) {
        let Some((name, hops)) = self.queue.pop_front() else { return };
        match file.and_then(|bytes| self.read(&name, bytes)) {
            Ok(value) => {
                let value = self.taken_in(value, &name, hops);
                self.files.insert(name, value);
            }
            Err(reason) => {
                self.missing.insert(name, reason);
            }
        }
    }

    fn read(&mut self, name: &str, bytes: Vec<u8>) -> Result<Value, String> {
        if self.bytes.saturating_add(bytes.len()) > MAX_BYTES {
            return Err(format!("with it the files would have more than {} MB", MAX_BYTES >> 20));
        }
        self.bytes += bytes.len();
        let (value, remarks) = document::read_beside(&bytes, self.held).map_err(|error| match error {
            ConnectorsError::Invalid { message, .. } => message,
            other => other.to_string(),
        })?;
        self.held = remarks.held;
        match depth(&value) > MAX_DEPTH {
            true => Err("it is nested too deep".into()),
            false => {
                let told =
                    remarks.into_texts().into_iter().map(|remark| format!("{}: {remark}", address(name)));
                let left = MAX_FILES.saturating_sub(self.remarks.len());
                self.remarks.extend(told.take(left).map(Value::from));
                Ok(value)
            }
        }
    }

    /// The whole document, and the names of the files that it now holds. One that refers to no other file stays as it was
    /// written.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<(Vec<u8>, Vec<String>), ConnectorsError> {
        let Self { mut root, original, files, missing, remarks, .. } = self;
        let names = files.keys().cloned().collect();
        if files.is_empty() && missing.is_empty() {
            return Ok((original, names));
        }
        if let Value::Object(root) = &mut root {
            // Not by name: what a name looks like says nothing about the reason.
            let missing = missing.into_iter().map(|(name, reason)| Value::from(vec![name, reason]));
            root.insert(FILES.into(), Value::Object(files.into_iter().collect()));
            root.insert(MISSING.into(), missing.collect());
            root.insert(REMARKS.into(), remarks.into());
        }
        Ok((serde_json::to_vec(&root)?, names))
    }

    /// Makes the references of a file lead into the whole, and puts the files that they name on the list.
    fn taken_in(&mut self, mut value: Value, name: &str, hops: usize) -> Value {
        self.references(&mut value, name, hops);
        value
    }

    fn references(&mut self, value: &mut Value, name: &str, hops: usize) {
        match value {
            Value::Object(fields) => {
                for (member, field) in fields.iter_mut() {
                    match field {
                        Value::String(reference) if member == "$ref" => {
                            *reference = self.reference(reference, name, hops);
                        }
                        Value::Object(about) if member == "discriminator" => {
                            let mapping = about.get_mut("mapping").and_then(Value::as_object_mut);
                            for reference in mapping.into_iter().flat_map(Map::values_mut) {
                                if let Value::String(reference) = reference
                                    && is_place(reference)
                                {
                                    *reference = self.reference(reference, name, hops);
                                }
                            }
                        }
                        other => self.references(other, name, hops),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.references(item, name, hops)),
            _ => {}
        }
    }

    /// A reference as it has to be in the whole.
    fn reference(&mut self, reference: &str, from: &str, hops: usize) -> String {
        let (file, place) = match reference.split_once('#') {
            Some((file, place)) => (file, place),
            None => (reference, ""),
        };
        let target = match file.is_empty() {
            true => Ok(from.to_owned()),
            false => self.origin.join(from, file),
        };
        let target = match target {
            Ok(target) => target,
            Err(reason) => {
                let name = short(file.split('?').next().unwrap_or_default(), 200);
                self.miss(name.clone(), reason);
                return format!("{name}#{place}");
            }
        };
        if target == self.first {
            return format!("#{place}");
        }
        if !place.is_empty() && !place.starts_with('/') {
            // The name of an anchor.
            return format!("{target}#{place}");
        }
        if !self.known.contains(&target) {
            if self.known.len() > MAX_FILES || hops >= MAX_HOPS {
                self.miss(target.clone(), "there are too many files".into());
                return format!("{target}#{place}");
            }
            self.known.insert(target.clone());
            self.queue.push_back((target.clone(), hops + 1));
        }
        format!("#/{FILES}/{}{place}", fragment(&step(&target)))
    }

    fn miss(&mut self, name: String, reason: String) {
        if self.missing.len() <= MAX_FILES {
            self.missing.insert(name, reason);
        }
    }
}

impl Origin {
    /// The name of a file that another one refers to.
    fn join(&self, from: &str, reference: &str) -> Result<String, String> {
        match self {
            Self::Folder(_) => {
                if Url::parse(reference).is_ok() || reference.starts_with("//") {
                    return Err("only files beside the document are read".into());
                }
                let path = percent_decode_str(reference.split('?').next().unwrap_or_default())
                    .decode_utf8()
                    .map_err(|_| "its name is no text".to_owned())?;
                let mut segments: Vec<&str> = from.split('/').collect();
                segments.pop();
                if path.starts_with(['/', '\\']) || path.contains(['\0', '\\', ':']) {
                    return Err("only files below the document's folder are read".into());
                }
                for segment in path.split('/') {
                    match segment {
                        "" | "." => {}
                        ".." => {
                            segments.pop().ok_or(
                                "only files below the document's folder are read: --ref-dir names a folder above it",
                            )?;
                        }
                        name => segments.push(name),
                    }
                }
                match segments.is_empty() {
                    true => Err("it is no file".into()),
                    false => Ok(segments.join("/")),
                }
            }
            Self::Address(first) => {
                let target = Url::parse(from).and_then(|from| from.join(reference));
                let target = target.map_err(|_| "it is no address".to_owned())?;
                let is_plain = target.username().is_empty() && target.password().is_none();
                match target.origin() == first.origin() && target.has_host() && is_plain {
                    true => Ok(without_fragment(&target)),
                    false => Err("only files of the document's own origin are fetched".into()),
                }
            }
        }
    }
}

fn without_fragment(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    url.into()
}

/// Whether a value of a discriminator's mapping is a place, and not the name of a schema.
fn is_place(reference: &str) -> bool {
    reference.contains(['#', '/']) || [".json", ".yaml", ".yml"].iter().any(|end| reference.ends_with(end))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(depth).max().unwrap_or_default() + 1,
        Value::Object(fields) => fields.values().map(depth).max().unwrap_or_default() + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
