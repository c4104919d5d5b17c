//! Inputs that are kept in the repository: what once failed, and what others begin from.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The inputs of a folder with their names, in the order of these.
///
/// # Panics
/// If there are none, or one cannot be read.
pub(crate) fn read(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("lists").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name.clone(), decoded(&name, bytes))
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} has no inputs", folder.display());
    found
}

fn decoded(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    if !name.ends_with(".base64") {
        return bytes;
    }
    let text: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).unwrap_or_else(|error| panic!("{name} is no base64: {error}"))
}
