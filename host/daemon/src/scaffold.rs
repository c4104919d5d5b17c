//! `airlock plugin new`: a crate that builds with plain `cargo build --release --target wasm32-wasip2`.
//!
//! The SDK goes with it, from inside this binary, so that nothing has to be fetched or found.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use include_dir::{Dir, include_dir};
use serde_json::json;

use crate::{
    ended::Ended,
    output::{Output, say},
};

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest-sdk");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");

/// What of the SDK a plugin does not need.
const LEFT_OUT: &[&str] = &["target", "template", "tests"];

/// Makes the crate.
pub(crate) fn new_plugin(name: &str, folder: Option<&Path>, output: Output) -> anyhow::Result<Ended> {
    let valid = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !valid {
        eprintln!(
            "airlock: '{name}' is not a plugin's name: use lower-case letters, digits and single '-', for instance order-mailer"
        );
        return Ok(Ended::BadInput);
    }
    let folder = folder.map_or_else(|| PathBuf::from(name), Path::to_path_buf);
    if folder.exists() {
        bail!("{} exists already: choose another name, or another place with --folder", folder.display());
    }
    let template = SDK.get_dir("template").context("the template is missing in this binary")?;
    write(template, template.path(), &folder, &|path, text| {
        let path = path.strip_suffix(".tmpl").unwrap_or(path).to_owned();
        (path, text.replace("{{name}}", name).replace("{{sdk}}", "path = \"sdk/guest-sdk\""))
    })?;
    let as_it_is = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    write(&SDK, Path::new(""), &folder.join("sdk/guest-sdk"), &as_it_is)?;
    write(&WIT, Path::new(""), &folder.join("sdk/wit"), &as_it_is)?;
    let shown = folder.display().to_string();
    output.value(&json!({ "folder": shown }), || {
        say!("made {shown}. Next:");
        say!("  cd {shown}");
        say!("  cargo build --release --target wasm32-wasip2");
        say!("  cp target/wasm32-wasip2/release/{}.wasm PLUGIN_FOLDER/", name.replace('-', "_"));
    });
    Ok(Ended::Well)
}

/// Writes an embedded folder, every file changed by `edit`.
fn write(
    from: &Dir<'_>,
    base: &Path,
    to: &Path,
    edit: &dyn Fn(&str, &str) -> (String, String),
) -> anyhow::Result<()> {
    for file in from.files() {
        let path = file.path().strip_prefix(base).unwrap_or(file.path()).to_string_lossy().into_owned();
        let text = file.contents_utf8().with_context(|| format!("{path} is not text"))?;
        let (path, text) = edit(&path, text);
        let path = to.join(path);
        let context = || format!("{} cannot be written", path.display());
        fs::create_dir_all(path.parent().unwrap_or(to)).with_context(context)?;
        fs::write(&path, text).with_context(context)?;
    }
    for folder in from.dirs() {
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
        let is_root = base.as_os_str().is_empty();
        if !(is_root && LEFT_OUT.contains(&name.as_ref())) && name != "target" {
            write(folder, base, to, edit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_crate_is_complete_and_no_placeholder_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let crate_ = folder.path().join("order-mailer");
        let ended = new_plugin("order-mailer", Some(&crate_), Output::new(true)).expect("is made");
        assert_eq!(ended, Ended::Well);
        for file in ["Cargo.toml", "src/lib.rs", "README.md", "sdk/guest-sdk/Cargo.toml", "sdk/wit/world.wit"]
        {
            let text = fs::read_to_string(crate_.join(file)).expect(file);
            assert!(!text.contains("{{"), "{file}");
        }
        assert!(fs::read_to_string(crate_.join("Cargo.toml")).expect("reads").contains("order-mailer"));
        for folder in ["template", "tests", "target"] {
            assert!(!crate_.join("sdk/guest-sdk").join(folder).exists(), "{folder}");
        }
        let ignored = fs::read_to_string(crate_.join(".gitignore")).expect("reads");
        assert!(ignored.lines().any(|line| line == "/data/"), "a daemon's data is in nobody's repository");
        assert!(
            new_plugin("order-mailer", Some(&crate_), Output::new(true)).is_err(),
            "nothing is overwritten"
        );
    }

    #[test]
    fn a_name_that_is_no_crates_name_is_refused() {
        for name in ["", "Order", "9lives", "a b", "a/b", "-a", "a-", "a--b"] {
            assert_eq!(
                new_plugin(name, None, Output::new(true)).expect("is refused"),
                Ended::BadInput,
                "{name}"
            );
        }
    }
}
