//! Arrows between rooms go one way: what a crate and what a module may know is said in docs/architecture.md, and read here
//! from the imports in the source.

mod graph;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use graph::{Arrow, Modules, TOP, circles};

/// The crates whose modules are looked at.
const CRATES: [&str; 9] = [
    "guest-sdk",
    "guest-sdk/macros",
    "host/schemas",
    "host/engine",
    "host/store",
    "host/sandbox",
    "host/connectors",
    "host/api",
    "host/daemon",
];

/// Circles that are known, by crate and folder: this list only gets shorter.
const CIRCLES: [(&str, &str, &[&str]); 6] = [
    // What a plugin sees of a call is the same in activities and workflows, and its form on the wire stands beside both.
    ("guest-sdk", "", &["activity", "component", "host", "log", "plugin", "tools", "workflow"]),
    // The code that is made of the interface names the host's type for a call under way.
    ("host/sandbox", "", &["activity", "bindings", "plugin", "runtime", "wire", "workflow"]),
    // `impl Engine`, piece by piece.
    (
        "host/engine",
        "engine",
        &["call", "cell", "messages", "questions", "reset", "start", "succession", "task", "turn"],
    ),
    ("host/connectors", "registry", &["apis", "connector", "headers", "method", "switches"]),
    ("host/connectors", "rest", &["body", "example", "multipart", "openapi", "request", "security"]),
    ("host/connectors", "rest", &["document", "reference", "schema", "yaml"]),
];

/// Arrows upward between rooms of the connectors that are known: this list only gets shorter.
const UPWARD: [(&str, &str); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").into()
}

fn modules(krate: &str) -> Modules {
    Modules::read(&root().join(krate).join("src"))
}

/// The rows of the table that follows a heading of docs/architecture.md, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join("docs/architecture.md")).expect("the page");
    let (_, after) =
        page.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let rows =
        after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells =
        |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    rows.skip(2).map(cells).collect()
}

fn names(cell: &str) -> impl Iterator<Item = String> {
    cell.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The crates of this repository that a crate depends on, tests and build scripts aside.
fn dependencies(manifest: &Path) -> Vec<String> {
    let text = fs::read_to_string(manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    let mut found = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).into();
        } else if section == "dependencies"
            || section.starts_with("target.") && section.ends_with(".dependencies")
        {
            // It may be known by another name.
            let package = line.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
            let name = package.or_else(|| line.split(['.', '=', ' ']).next()).unwrap_or_default();
            found.extend(Some(name.to_owned()).filter(|name| name.starts_with("airlock")));
        }
    }
    found
}

#[test]
fn a_crate_knows_only_what_the_architecture_says() {
    let rows = table("# Architecture");
    let crate_of = |room: &str| match room {
        "wit/" => None,
        room => Some(format!("airlock-{room}")),
    };
    let mut wrong = Vec::new();
    for row in &rows {
        let [room, name, _, knows] = row.as_slice() else { panic!("{row:?} has no four cells") };
        // All rooms of the host together, or a binary that is run and not linked.
        let known: Option<BTreeSet<String>> = match knows.as_str() {
            "all" => None,
            "nothing" | "nothing of the host" | "the binary" => Some(BTreeSet::new()),
            knows => Some(
                names(knows)
                    .filter_map(|name| if name.starts_with("airlock") { Some(name) } else { crate_of(&name) })
                    .collect(),
            ),
        };
        let folders: Vec<PathBuf> = match room.as_str() {
            "wit/" => continue,
            "plugins/" => fs::read_dir(root().join("plugins"))
                .expect("plugins")
                .map(|entry| entry.expect("lists").path())
                .filter(|folder| folder.join("Cargo.toml").exists())
                .collect(),
            room => vec![root().join(room)],
        };
        for folder in folders {
            for dependency in dependencies(&folder.join("Cargo.toml")) {
                // Parts of one room: macros of the guest side, and what all tests wait by.
                let own = dependency.starts_with(name.as_str())
                    || dependency == "airlock-patience" && room.starts_with("tests");
                if !own && known.as_ref().is_some_and(|known| !known.contains(&dependency)) {
                    wrong.push(format!(
                        "{} -> {dependency}",
                        folder.strip_prefix(root()).expect("below").display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md allows none of these:\n{}", wrong.join("\n"));
    // Nothing of the host is missing there.
    let listed: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    for entry in fs::read_dir(root().join("host")).expect("the host") {
        let room = format!("host/{}", entry.expect("lists").file_name().display());
        assert!(listed.contains(room.as_str()), "{room} is no room of docs/architecture.md");
    }
}

/// Circles with their places, and whether each is known.
fn told(
    krate: &str,
    folder: &str,
    arrows: &[Arrow],
    seen: &mut BTreeSet<(String, String, String)>,
) -> Vec<String> {
    let mut new = Vec::new();
    for circle in circles(arrows) {
        let rooms: BTreeSet<&str> =
            circle.iter().flat_map(|arrow| [arrow.from.as_str(), &arrow.to]).collect();
        let is_known = |known: &&(&str, &str, &[&str])| {
            (known.0, known.1) == (krate, folder) && rooms.iter().eq(known.2)
        };
        match CIRCLES.iter().find(is_known) {
            Some(known) => {
                seen.insert((krate.into(), folder.into(), known.2[0].into()));
            }
            None => new.extend(
                [format!("{krate} {folder}: {}", Vec::from_iter(rooms).join(", "))]
                    .into_iter()
                    .chain(circle.iter().map(|arrow| format!("    {arrow}"))),
            ),
        }
    }
    new
}

#[test]
fn the_modules_of_a_crate_and_of_a_folder_know_each_other_in_no_circle() {
    let (mut new, mut seen) = (Vec::new(), BTreeSet::new());
    for krate in CRATES {
        let modules = modules(krate);
        for folder in modules.folders() {
            let mut arrows = modules.arrows_below(&folder);
            if folder.is_empty() {
                // Their order is looked at below.
                if krate == "host/connectors" {
                    continue;
                }
            } else {
                // What stands in a folder may use what the folder's own file says.
                arrows.retain(|arrow| arrow.from != TOP && arrow.to != TOP);
            }
            new.extend(told(krate, &folder.join("/"), &arrows, &mut seen));
        }
    }
    assert!(new.is_empty(), "circles (move what both need to a third place):\n{}", new.join("\n"));
    let gone: Vec<_> = CIRCLES
        .iter()
        .filter(|known| !seen.contains(&(known.0.into(), known.1.into(), known.2[0].into())))
        .collect();
    assert!(gone.is_empty(), "these circles are gone or smaller: take them out of the list: {gone:?}");
}

#[test]
fn the_rooms_of_the_connectors_know_only_those_below_them() {
    let rows = table("## The rooms of the connectors");
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut above: BTreeSet<String> = BTreeSet::new();
    for row in &rows {
        let room = row[0].trim_end_matches('/').trim_end_matches(".rs").to_owned();
        let known: BTreeSet<String> = match row[2].as_str() {
            "–" => BTreeSet::new(),
            "all above" => above.clone(),
            knows => names(knows).collect(),
        };
        let higher: Vec<_> = known.difference(&above).collect();
        assert!(higher.is_empty(), "{room} is to know {higher:?}, which do not stand above it in the table");
        above.insert(room.clone());
        allowed.insert(room, known);
    }
    let top = TOP.trim_end_matches(".rs");
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for arrow in modules("host/connectors").arrows() {
        let from = if arrow.from == TOP { top } else { &arrow.from };
        let to = if arrow.to == TOP { top } else { &arrow.to };
        if allowed.get(from).is_some_and(|allowed| allowed.contains(to)) {
            continue;
        }
        match UPWARD.iter().find(|known| **known == (from, to)) {
            Some(known) => drop(seen.insert(*known)),
            None => wrong.push(arrow.to_string()),
        }
    }
    assert!(wrong.is_empty(), "docs/architecture.md allows none of these arrows:\n{}", wrong.join("\n"));
    let gone: Vec<_> = UPWARD.iter().filter(|known| !seen.contains(*known)).collect();
    assert!(gone.is_empty(), "these arrows are gone: take them out of the list: {gone:?}");
}
