//! What a Rust file says of other modules: read from its text, without test code, strings and comments.

use std::collections::BTreeSet;

/// What one module says. Modules that are written inside it are modules of their own.
#[derive(Debug, Default)]
pub struct Module {
    /// Modules in files of their own: `mod name;`.
    pub files: Vec<String>,
    /// Modules in the same file: `mod name { … }`.
    pub inside: Vec<(String, Self)>,
    /// Names that it takes from elsewhere, with their paths.
    pub imports: Vec<(String, Vec<String>)>,
    /// What it defines.
    pub items: BTreeSet<String>,
    /// Its macros: an exported one is known by its name at the top of the crate.
    pub macros: BTreeSet<String>,
    /// Every path it names, imports included, with the line.
    pub mentions: Vec<(Vec<String>, usize)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Sign(char),
}

type Tokens = [(Token, usize)];

/// Reads a file.
pub fn read(text: &str) -> Module {
    let mut module = Module::default();
    read_items(&tokens(text), &mut module);
    module
}

fn tokens(text: &str) -> Vec<(Token, usize)> {
    let text: Vec<char> = text.chars().collect();
    let at = |place: usize| text.get(place).copied().unwrap_or('\0');
    let is_word = |sign: char| sign.is_alphanumeric() || sign == '_';
    let (mut place, mut line, mut found) = (0, 1, Vec::new());
    while place < text.len() {
        let begin = place;
        match at(place) {
            '/' if at(place + 1) == '/' => {
                while place < text.len() && at(place) != '\n' {
                    place += 1;
                }
            }
            '/' if at(place + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(place), at(place + 1)) {
                        ('/', '*') => (depth, place) = (depth + 1, place + 2),
                        ('*', '/') => (depth, place) = (depth - 1, place + 2),
                        _ => place += 1,
                    }
                    if depth == 0 || place >= text.len() {
                        break;
                    }
                }
            }
            '"' => place = end_of_string(&text, place),
            // A character, or a lifetime.
            '\'' if at(place + 1) == '\\' => {
                place += 3;
                while place < text.len() && at(place) != '\'' {
                    place += 1;
                }
                place += 1;
            }
            '\'' if at(place + 2) == '\'' => place += 3,
            '\'' => place += 1,
            sign if is_word(sign) => {
                while is_word(at(place)) {
                    place += 1;
                }
                let word: String = text[begin..place].iter().collect();
                let raw = word.ends_with('r') && word.len() < 3;
                let hashes = text[place..].iter().take_while(|sign| **sign == '#').count();
                if raw && at(place + hashes) == '"' {
                    place = end_of_raw_string(&text, place + hashes + 1, hashes);
                } else if raw && hashes == 1 && is_word(at(place + 1)) {
                    // `r#type`: the word alone counts.
                    place += 1;
                } else if at(place) == '"' && matches!(word.as_str(), "b" | "c") {
                    place = end_of_string(&text, place);
                } else {
                    found.push((Token::Word(word), line));
                }
            }
            ':' if at(place + 1) == ':' => {
                found.push((Token::Path, line));
                place += 2;
            }
            sign => {
                if !sign.is_whitespace() {
                    found.push((Token::Sign(sign), line));
                }
                place += 1;
            }
        }
        let end = place.min(text.len());
        line += text[begin..end].iter().filter(|sign| **sign == '\n').count();
    }
    found
}

/// The place after a string that begins at `place`.
fn end_of_string(text: &[char], mut place: usize) -> usize {
    place += 1;
    while place < text.len() && text[place] != '"' {
        place += if text[place] == '\\' { 2 } else { 1 };
    }
    place + 1
}

fn end_of_raw_string(text: &[char], mut place: usize, hashes: usize) -> usize {
    let ends = |place: usize| {
        text[place] == '"' && text[place + 1..].iter().take_while(|sign| **sign == '#').count() >= hashes
    };
    while place < text.len() && !ends(place) {
        place += 1;
    }
    place + 1 + hashes
}

fn word(tokens: &Tokens, place: usize) -> Option<&str> {
    match tokens.get(place) {
        Some((Token::Word(word), _)) => Some(word),
        _ => None,
    }
}

fn is(tokens: &Tokens, place: usize, sign: char) -> bool {
    matches!(tokens.get(place), Some((Token::Sign(found), _)) if *found == sign)
}

fn is_path(tokens: &Tokens, place: usize) -> bool {
    matches!(tokens.get(place), Some((Token::Path, _)))
}

/// The place after the bracket that closes the one at `place`.
fn after_group(tokens: &Tokens, mut place: usize) -> usize {
    let mut depth = 0;
    while place < tokens.len() {
        match tokens[place].0 {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        place += 1;
        if depth == 0 {
            break;
        }
    }
    place
}

/// The place after what an attribute before `place` belongs to.
fn after_item(tokens: &Tokens, mut place: usize) -> usize {
    while is(tokens, place, '#') {
        place = after_group(tokens, place + 1);
    }
    const ITEMS: [&str; 13] = [
        "pub", "fn", "async", "unsafe", "impl", "struct", "enum", "trait", "type", "mod", "use", "const",
        "static",
    ];
    let is_item = word(tokens, place).is_some_and(|word| ITEMS.contains(&word));
    while place < tokens.len() {
        match tokens[place].0 {
            Token::Sign('{') => return after_group(tokens, place),
            Token::Sign('(' | '[') => place = after_group(tokens, place),
            Token::Sign(';') => return place + 1,
            Token::Sign(',') if !is_item => return place + 1,
            Token::Sign(')' | ']' | '}') => return place,
            _ => place += 1,
        }
    }
    place
}

/// Whether an attribute, which begins at `place` with its bracket, is `cfg(test)` or `cfg(all(test, …))`.
fn is_of_tests(tokens: &Tokens, place: usize) -> bool {
    let words: Vec<&str> = (place..place + 7).filter_map(|place| word(tokens, place)).collect();
    words.starts_with(&["cfg", "test"]) || words.starts_with(&["cfg", "all", "test"])
}

fn read_items(tokens: &Tokens, module: &mut Module) {
    let (mut place, mut depth) = (0, 0_usize);
    while place < tokens.len() {
        match &tokens[place].0 {
            Token::Sign('#') if is(tokens, place + 1, '[') => {
                let after = after_group(tokens, place + 1);
                place = if is_of_tests(tokens, place + 1) { after_item(tokens, after) } else { after };
            }
            Token::Sign('{') => (depth, place) = (depth + 1, place + 1),
            Token::Sign('}') => (depth, place) = (depth.saturating_sub(1), place + 1),
            Token::Word(name) => place = read_word(tokens, place, name, depth, module),
            _ => place += 1,
        }
    }
}

/// Reads what begins with a word, and says where it ends.
fn read_word(tokens: &Tokens, place: usize, name: &str, depth: usize, module: &mut Module) -> usize {
    let next = word(tokens, place + 1);
    match name {
        // `pub(in crate::x)` names whom it is for.
        "pub" if is(tokens, place + 1, '(') => after_group(tokens, place + 1),
        "mod" if next.is_some() && is(tokens, place + 2, ';') => {
            module.files.extend(next.map(str::to_owned));
            place + 3
        }
        "mod" if next.is_some() && is(tokens, place + 2, '{') => {
            let after = after_group(tokens, place + 2);
            let mut inside = Module::default();
            read_items(&tokens[place + 3..after.max(place + 4) - 1], &mut inside);
            module.inside.extend(next.map(|name| (name.to_owned(), inside)));
            after
        }
        "use" if !is(tokens, place + 1, '<') => read_use(tokens, place + 1, &[], module),
        "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" if next.is_some() => {
            if depth == 0 {
                module.items.extend(next.map(str::to_owned));
            }
            place + 1
        }
        // What stands in a macro is of the place where it is used.
        "macro_rules" if is(tokens, place + 1, '!') => {
            let name = word(tokens, place + 2).map(str::to_owned);
            module.macros.extend(name.clone());
            module.items.extend(name);
            after_group(tokens, place + 3)
        }
        _ => {
            let goes_on = place > 0 && (is_path(tokens, place - 1) || is(tokens, place - 1, '.'));
            let (mut path, mut end) = (vec![name.to_owned()], place + 1);
            while is_path(tokens, end)
                && let Some(word) = word(tokens, end + 1)
            {
                path.push(word.to_owned());
                end += 2;
            }
            if path.len() > 1 && !goes_on {
                module.mentions.push((path, tokens[place].1));
            }
            end
        }
    }
}

/// Reads a tree of imports after the path that stands before it.
fn read_use(tokens: &Tokens, mut place: usize, before: &[String], module: &mut Module) -> usize {
    let mut path = before.to_vec();
    let line = tokens.get(place).map_or(0, |token| token.1);
    loop {
        if is_path(tokens, place) {
            place += 1;
        } else if is(tokens, place, '{') {
            let after = after_group(tokens, place);
            place += 1;
            while place + 1 < after {
                place = read_use(tokens, place, &path, module);
                if is(tokens, place, ',') {
                    place += 1;
                }
            }
            return after;
        } else if is(tokens, place, '*') {
            module.mentions.push((path, line));
            return place + 1;
        } else if let Some(name) = word(tokens, place) {
            if name != "self" || path.is_empty() {
                path.push(name.to_owned());
            }
            place += 1;
            if !is_path(tokens, place) {
                let mut known_as = path.last().cloned().unwrap_or_default();
                if word(tokens, place) == Some("as") {
                    known_as = word(tokens, place + 1).unwrap_or("_").to_owned();
                    place += 2;
                }
                module.imports.push((known_as, path.clone()));
                module.mentions.push((path, line));
                return place;
            }
        } else {
            return place + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mentions(text: &str) -> Vec<String> {
        read(text).mentions.into_iter().map(|(path, line)| format!("{line} {}", path.join("::"))).collect()
    }

    #[test]
    fn imports_are_read_with_groups_new_names_and_themselves() {
        let text = "use std::fmt;\npub(crate) use crate::{\n    a::{self, B as C, d::*},\n    E,\n};\nuse super::f as _;";
        let expected =
            ["1 std::fmt", "3 crate::a", "3 crate::a::B", "3 crate::a::d", "4 crate::E", "6 super::f"];
        assert_eq!(mentions(text), expected);
        let names: Vec<_> = read(text).imports.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["fmt", "a", "C", "E", "_"]);
    }

    #[test]
    fn paths_are_found_wherever_they_stand_and_nothing_else_is() {
        let text = r##"
            pub(in crate::not) fn f<'a>(x: &'a crate::one::T) -> impl Fn() + use<'a> {
                // crate::not::a
                /* crate::not /* ::b */ crate::not::c */
                let (a, b, c) = ("crate::not \" ::d", r#"crate::not "::e"#, '"');
                let d = [b'\'', '\\', '{' as u8]; b"crate::not::f"; x.not::<u8>();
                super::two::<u8>(<T as self::three::Trait>::not::X, four::FIVE)
            }
        "##;
        let expected = ["2 crate::one::T", "7 super::two", "7 self::three::Trait", "7 four::FIVE"];
        assert_eq!(mentions(text), expected);
    }

    #[test]
    fn code_of_tests_is_left_out_and_what_follows_it_is_not() {
        let text = "
            #[cfg(test)]
            #[derive(Debug)]
            struct Not<A, B> { a: crate::not::A<B> }
            #[cfg(test)]
            mod tests;
            #[cfg(all(test, unix))]
            use crate::not::{B, C};
            struct D { #[cfg(test)] e: crate::not::E, f: crate::one::F }
            #[cfg(test)] fn g<A, B>() { crate::not::h() }
            #[cfg(not(test))] use crate::two;
            #[cfg(test)] mod more { use crate::not::I; }
            use crate::three;
        ";
        assert_eq!(mentions(text), ["9 crate::one::F", "11 crate::two", "13 crate::three"]);
        assert!(read(text).files.is_empty());
    }

    #[test]
    fn what_stands_in_a_macro_is_no_path_of_its_module() {
        let module =
            read("#[macro_export] macro_rules! m { ($x:expr) => { $crate::not::f($x) }; } use crate::one;");
        assert_eq!(module.mentions, [(vec!["crate".into(), "one".into()], 1)]);
        assert!(module.macros.contains("m"));
    }

    #[test]
    fn modules_inside_are_modules_of_their_own_and_items_are_those_of_the_module() {
        let text =
            "mod a { pub mod b { use super::c; } struct D; } mod e; pub const fn f() { fn g() {} } use h::i;";
        let module = read(text);
        assert_eq!(module.inside[0].1.inside[0].1.mentions, [(vec!["super".into(), "c".into()], 1)]);
        assert!(module.inside[0].1.items.contains("D") && module.files == ["e"]);
        assert!(module.items.contains("f") && !module.items.contains("g"));
        assert_eq!(module.mentions.len(), 1);
    }
}
