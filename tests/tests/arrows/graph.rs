//! Which room of a crate knows which other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use crate::source::{self, Module};

/// The module at the top of a crate, as a room.
pub const TOP: &str = "lib.rs";

/// A place where a room names another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// The room that knows.
    pub from: String,
    /// The room that is known.
    pub to: String,
    /// File, line and path.
    pub place: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} -> {}  {}", self.from, self.to, self.place)
    }
}

struct Node {
    path: Vec<String>,
    file: String,
    parent: usize,
    children: BTreeMap<String, usize>,
    module: Module,
}

/// A crate's modules.
pub struct Modules(Vec<Node>);

impl Modules {
    /// Reads a crate from its `src` folder.
    pub fn read(folder: &Path) -> Self {
        let top = ["lib.rs", "main.rs"].map(|name| folder.join(name)).into_iter().find(|file| file.exists());
        let top = top.unwrap_or_else(|| panic!("{} has no lib.rs", folder.display()));
        let load = |path: &[String]| {
            let beside = folder.join(path.join("/")).with_extension("rs");
            let inside = folder.join(path.join("/")).join("mod.rs");
            let file = if path.is_empty() {
                &top
            } else if beside.exists() {
                &beside
            } else {
                &inside
            };
            let text = fs::read_to_string(file).unwrap_or_else(|error| {
                panic!("the module {} of {}: {error}", path.join("::"), folder.display())
            });
            (file.strip_prefix(folder).unwrap_or(file).display().to_string(), text)
        };
        Self::of(&load)
    }

    /// Reads a crate whose modules come from a function.
    pub fn of(load: &dyn Fn(&[String]) -> (String, String)) -> Self {
        let mut modules = Self(Vec::new());
        let (file, text) = load(&[]);
        modules.add(Vec::new(), 0, file, source::read(&text), load);
        modules
    }

    fn add(
        &mut self,
        path: Vec<String>,
        parent: usize,
        file: String,
        mut module: Module,
        load: &dyn Fn(&[String]) -> (String, String),
    ) -> usize {
        let index = self.0.len();
        let inside = std::mem::take(&mut module.inside);
        let files = module.files.clone();
        self.0.push(Node {
            path: path.clone(),
            file: file.clone(),
            parent,
            children: BTreeMap::new(),
            module,
        });
        for (name, module) in inside {
            let path = [&path[..], std::slice::from_ref(&name)].concat();
            let child = self.add(path, index, file.clone(), module, load);
            self.0[index].children.insert(name, child);
        }
        for name in files {
            let path = [&path[..], std::slice::from_ref(&name)].concat();
            let (file, text) = load(&path);
            let child = self.add(path, index, file, source::read(&text), load);
            self.0[index].children.insert(name, child);
        }
        index
    }

    /// The module in which what a path names is defined, and whether it is the module itself that is named; `None` for
    /// what is not of this crate.
    fn find(&self, from: usize, path: &[String], depth: usize) -> Option<(usize, bool)> {
        if depth > 20 {
            return None;
        }
        let node = &self.0[from];
        let (mut at, mut rest) = match path.first().map(String::as_str)? {
            "crate" => (0, &path[1..]),
            "self" => (from, &path[1..]),
            "super" => (node.parent, &path[1..]),
            first
                if node.children.contains_key(first)
                    || node.module.imports.iter().any(|it| it.0 == first) =>
            {
                (from, path)
            }
            _ => return None,
        };
        while let Some(step) = rest.first() {
            rest = &rest[1..];
            if step == "super" {
                at = self.0[at].parent;
                continue;
            }
            if let Some(child) = self.0[at].children.get(step) {
                at = *child;
                continue;
            }
            if self.0[at].module.items.contains(step) {
                return Some((at, false));
            }
            // What it is taken from elsewhere under this name.
            let import = self.0[at]
                .module
                .imports
                .iter()
                .find(|(name, path)| name == step && path[..] != [name.clone()]);
            match import.map(|(_, path)| self.find(at, path, depth + 1)) {
                Some(Some((found, true))) => at = found,
                Some(Some(item)) => return Some(item),
                // Of another crate: known by this name here alone.
                Some(None) if at == from => return None,
                None if at == 0 => {
                    let of_macro = self.0.iter().position(|node| node.module.macros.contains(step));
                    return Some((of_macro.unwrap_or(at), false));
                }
                _ => return Some((at, false)),
            }
        }
        Some((at, true))
    }

    /// Every arrow between the rooms of the crate.
    pub fn arrows(&self) -> Vec<Arrow> {
        self.arrows_below(&[])
    }

    /// Every arrow between the parts of a folder: what stands in it, and the folder's own file, which is called [`TOP`].
    pub fn arrows_below(&self, below: &[String]) -> Vec<Arrow> {
        let room = |index: usize| {
            let path = self.0[index].path.strip_prefix(below)?;
            Some(path.first().map_or(TOP, String::as_str))
        };
        let mut found = BTreeSet::new();
        for (index, node) in self.0.iter().enumerate() {
            let Some(from) = room(index) else { continue };
            for (path, line) in &node.module.mentions {
                let Some((target, _)) = self.find(index, path, 0) else { continue };
                let Some(to) = room(target) else { continue };
                if from != to {
                    let place = format!("{}:{line} {}", node.file, path.join("::"));
                    found.insert(Arrow { from: from.into(), to: to.into(), place });
                }
            }
        }
        found.into_iter().collect()
    }

    /// The paths of all modules that have others in them.
    pub fn folders(&self) -> Vec<Vec<String>> {
        self.0.iter().filter(|node| !node.children.is_empty()).map(|node| node.path.clone()).collect()
    }
}

/// The arrows that are part of a circle, circle by circle.
pub fn circles(arrows: &[Arrow]) -> Vec<Vec<&Arrow>> {
    let reached = |from: &str| {
        let (mut all, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(room) = next.pop() {
            for arrow in arrows.iter().filter(|arrow| arrow.from == room) {
                if all.insert(arrow.to.clone()) {
                    next.push(arrow.to.clone());
                }
            }
        }
        all
    };
    let rooms: BTreeSet<&String> = arrows.iter().flat_map(|arrow| [&arrow.from, &arrow.to]).collect();
    let reach: BTreeMap<&str, BTreeSet<String>> =
        rooms.iter().map(|room| (room.as_str(), reached(room))).collect();
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for &room in &rooms {
        if !reach[room.as_str()].contains(room) || seen.contains(room) {
            continue;
        }
        let circle: BTreeSet<&String> = rooms
            .iter()
            .filter(|other| reach[room.as_str()].contains(**other) && reach[other.as_str()].contains(room))
            .copied()
            .collect();
        found.push(
            arrows
                .iter()
                .filter(|arrow| circle.contains(&arrow.from) && circle.contains(&arrow.to))
                .collect(),
        );
        seen.extend(circle);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(files: &[(&str, &str)]) -> Vec<Arrow> {
        let load = |path: &[String]| {
            let name = path.join("/");
            let text = files.iter().find(|(file, _)| *file == name).unwrap_or_else(|| panic!("no {name}")).1;
            (name, text.to_owned())
        };
        Modules::of(&load).arrows()
    }

    fn pairs(arrows: &[Arrow]) -> Vec<String> {
        let pairs: BTreeSet<_> = arrows.iter().map(|arrow| format!("{}>{}", arrow.from, arrow.to)).collect();
        pairs.into_iter().collect()
    }

    #[test]
    fn a_planted_circle_is_found_with_its_places() {
        let arrows = arrows(&[
            ("", "mod a; mod b; mod c; mod d; pub use a::A;"),
            ("a", "use crate::b::B; pub struct A;"),
            ("b", "pub mod deep; pub struct B;"),
            ("b/deep", "fn f() { crate::c::C }"),
            ("c", "use super::{a, d};\n pub struct C;"),
            ("d", "pub fn f() {}"),
        ]);
        assert_eq!(pairs(&arrows), ["a>b", "b>c", "c>a", "c>d", "lib.rs>a"]);
        let circles = circles(&arrows);
        assert_eq!(circles.len(), 1);
        let places: Vec<_> = circles[0].iter().map(|arrow| arrow.to_string()).collect();
        assert_eq!(
            places,
            ["a -> b  a:1 crate::b::B", "b -> c  b/deep:1 crate::c::C", "c -> a  c:1 super::a"]
        );
    }

    #[test]
    fn what_the_top_or_a_room_hands_on_is_of_the_room_where_it_is_defined() {
        let arrows = arrows(&[
            ("", "mod a; mod b; mod c; pub use crate::b::Thing as Named; pub use std::fmt; pub struct Own;"),
            ("a", "use crate::{Named, b::Deep, fmt, Own};"),
            ("b", "pub use crate::c::Deep; pub struct Thing;"),
            ("c", "pub struct Deep; use std::fmt::Debug; fn f(x: impl Debug, y: fmt::Error) {}"),
        ]);
        assert_eq!(pairs(&arrows), ["a>b", "a>c", "a>lib.rs", "b>c", "lib.rs>b"]);
    }

    #[test]
    fn code_of_tests_makes_no_arrow() {
        let arrows = arrows(&[
            ("", "mod a; mod b;"),
            ("a", "use crate::b::B; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("b", "pub struct B; #[cfg(test)] mod tests { use super::*; use crate::a::A; }"),
        ]);
        assert_eq!(pairs(&arrows), ["a>b"]);
        assert!(circles(&arrows).is_empty());
    }

    #[test]
    fn a_macro_that_is_known_at_the_top_is_of_its_module() {
        let arrows = arrows(&[
            ("", "mod a; mod b;"),
            ("a", "fn f() { crate::m!(); crate::b::m!() }"),
            ("b", "#[macro_export] macro_rules! m { () => { $crate::a::f() } } pub use crate::m as n;"),
        ]);
        assert_eq!(pairs(&arrows), ["a>b"]);
    }

    #[test]
    fn two_circles_are_two() {
        let arrows = arrows(&[
            ("", "mod a; mod b; mod c; mod d;"),
            ("a", "use crate::{b::B, c::C};"),
            ("b", "use crate::a::A;"),
            ("c", "use crate::d::D;"),
            ("d", "use crate::c::C;"),
        ]);
        let circles: Vec<usize> = circles(&arrows).iter().map(Vec::len).collect();
        assert_eq!(circles, [2, 2]);
    }
}
