//! OpenAPI documents on disk: one file, or several that refer to each other.

use std::path::{Path, PathBuf};

use airlock_connectors::{Bundle, MAX_DOCUMENT, Origin};
use anyhow::Context as _;
use serde_json::Value;

use crate::output::{say, text};

/// Reads a document with the files that it refers to. Those are looked for below its folder, or below `folder`, and nowhere
/// else, wherever links lead.
pub(crate) fn read(file: &Path, folder: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let unread = || format!("the document {} cannot be read", file.display());
    let document = std::fs::read(file).with_context(unread)?;
    let place = file.canonicalize().with_context(unread)?;
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => place.parent().map(Path::to_owned).unwrap_or_default(),
    };
    let shown = folder.display();
    let folder = folder.canonicalize().with_context(|| format!("there is no folder {shown}"))?;
    // A document from elsewhere is taken as if it stood in the folder.
    let inside = place.strip_prefix(&folder).ok().or(place.file_name().map(Path::new)).unwrap_or(&place);
    let name = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let origin = Origin::Folder(name.collect::<Vec<_>>().join("/"));
    let mut bundle = Bundle::new(document, origin)
        .with_context(|| format!("the document {} cannot be read", file.display()))?;
    while let Some((name, most)) = bundle.wanted() {
        let part = beside(&folder, name, most.min(MAX_DOCUMENT));
        bundle.give(part);
    }
    Ok(bundle.finish()?.0)
}

/// A file below the folder, or why it cannot be had. The name has no `..`; where links lead is checked.
fn beside(folder: &Path, name: &str, most: usize) -> Result<Vec<u8>, String> {
    let place: PathBuf = name.split('/').fold(folder.to_owned(), |place, part| place.join(part));
    let place = place.canonicalize().map_err(|_| "there is no such file".to_owned())?;
    if !place.starts_with(folder) {
        return Err("it is a link out of the document's folder".into());
    }
    let about = place.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is no file".into());
    }
    if usize::try_from(about.len()).unwrap_or(usize::MAX) > most {
        return Err("with it the document would be too large".into());
    }
    std::fs::read(&place).map_err(|error| error.to_string())
}

/// Says what an import left out or guessed.
pub(crate) fn tell(answer: &Value) {
    /// Lines of one kind: the rest is counted, and `--json` has it all.
    const MOST: usize = 200;
    for (kind, list, place) in [("left out", "skipped", "operation"), ("note", "notes", "place")] {
        let told = answer[list].as_array().map(Vec::as_slice).unwrap_or_default();
        for one in told.iter().take(MOST) {
            say!("{kind}: {}: {}", text(&one[place]), text(&one["reason"]));
        }
        if told.len() > MOST {
            say!("{kind}: {} more, which --json shows", told.len() - MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, name: &str, text: &str) {
        let place = folder.join(name);
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("a folder");
        std::fs::write(place, text).expect("is written");
    }

    fn whole(file: &Path, folder: Option<&Path>) -> Value {
        serde_json::from_slice(&read(file, folder).expect("is read")).expect("JSON")
    }

    #[test]
    fn files_are_read_below_the_folder_and_nowhere_else() {
        let outer = tempfile::tempdir().expect("a folder");
        let inner = outer.path().join("api");
        written(outer.path(), "secret.yaml", "secret: hunter2\n");
        written(&inner, "parts/a.yaml", "get: { $ref: 'b.yaml' }\n");
        written(&inner, "parts/b.yaml", "operationId: b\n");
        std::os::unix::fs::symlink(outer.path().join("secret.yaml"), inner.join("link.yaml"))
            .expect("a link");
        std::os::unix::fs::symlink(outer.path(), inner.join("up")).expect("a link");
        let document = "openapi: 3.1.0\npaths:\n  /a: { $ref: 'parts/a.yaml' }\n  /b: { $ref: 'link.yaml' }\n  /c: { $ref: \
                        'up/secret.yaml' }\n  /d: { $ref: '../secret.yaml' }\n  /e: { $ref: parts }\n";
        written(&inner, "openapi.yaml", document);
        let read = whole(&inner.join("openapi.yaml"), None);
        assert!(!read.to_string().contains("hunter2"), "{read}");
        assert_eq!(read["x-airlock-files"]["parts/b.yaml"]["operationId"], "b");
        let missing = read["x-airlock-missing"].as_array().expect("a list").iter();
        let missing: std::collections::BTreeMap<&str, &str> = missing
            .map(|pair| (pair[0].as_str().expect("a name"), pair[1].as_str().expect("a reason")))
            .collect();
        assert_eq!(missing["link.yaml"], "it is a link out of the document's folder");
        assert_eq!(missing["up/secret.yaml"], "it is a link out of the document's folder");
        assert!(missing["../secret.yaml"].contains("--ref-dir"), "{missing:?}");
        assert_eq!(missing["parts"], "it is no file");
        // With a folder above, it may.
        let read = whole(&inner.join("openapi.yaml"), Some(outer.path()));
        assert_eq!(read["x-airlock-files"]["secret.yaml"]["secret"], "hunter2");
        // A document from elsewhere is taken as if it stood there.
        written(
            outer.path(),
            "else/openapi.yaml",
            "openapi: 3.1.0\npaths: { /a: { $ref: 'parts/a.yaml' } }\n",
        );
        let read = whole(&outer.path().join("else/openapi.yaml"), Some(&inner));
        assert_eq!(read["x-airlock-files"]["parts/b.yaml"]["operationId"], "b");
    }
}
