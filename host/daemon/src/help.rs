//! What `--help` says is what is taken: a walk over all commands.

use clap::{Arg, Command, CommandFactory as _};

use crate::Arguments;

/// All commands with the words that lead to them.
fn commands(command: &Command, path: &[String], all: &mut Vec<(Vec<String>, Command)>) {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let path = [path, &[inner.get_name().to_owned()]].concat();
        all.push((path.clone(), inner.clone()));
        commands(inner, &path, all);
    }
}

/// The words of a list such as `…: one, two or three`, if the help of an argument ends a sentence with one.
fn named(help: &str) -> Vec<String> {
    let list = |part: &str| -> Option<Vec<String>> {
        let sentence = part.split(". ").next()?.split(" [").next()?.trim_end_matches('.');
        let words: Vec<&str> =
            sentence.split(", ").flat_map(|word| word.split(" or ")).map(str::trim).collect();
        let of_words = |letter: char| letter.is_alphanumeric() || "_-:/.=…".contains(letter);
        let is_word = |word: &&str| !word.is_empty() && word.chars().all(of_words);
        (words.len() > 1 && words.iter().all(is_word))
            .then(|| words.iter().map(|&word| word.into()).collect())
    };
    help.split(": ").skip(1).find_map(list).unwrap_or_default()
}

/// What an argument takes, whatever it is.
fn dummy(argument: &Arg) -> String {
    let closed = argument.get_possible_values();
    closed.first().map_or_else(|| "1".to_owned(), |first| first.get_name().to_owned())
}

/// Whether a command line with this value is understood, without doing anything.
fn is_taken(path: &[String], command: &Command, argument: &Arg, value: &str) -> bool {
    let mut line: Vec<String> = vec!["airlock".into()];
    line.extend(path.iter().cloned());
    let written = |argument: &Arg, value: &str| match (argument.get_long(), argument.get_short()) {
        (Some(long), _) => format!("--{long}={value}"),
        (None, Some(short)) => format!("-{short}{value}"),
        (None, None) => value.to_owned(),
    };
    let needs = argument.get_id();
    for other in command.get_arguments() {
        if other.get_id() == needs {
            line.push(written(other, value));
        } else if other.is_required_set() {
            line.push(written(other, &dummy(other)));
        }
    }
    match Arguments::command().try_get_matches_from(&line) {
        Ok(_) => true,
        // Something else of the line is missing: that is not about the value.
        Err(error) => !matches!(
            error.kind(),
            clap::error::ErrorKind::InvalidValue | clap::error::ErrorKind::ValueValidation
        ),
    }
}

#[test]
fn every_value_that_help_names_is_taken_and_others_are_not() {
    let mut all = Vec::new();
    commands(&Arguments::command(), &[], &mut all);
    assert!(all.len() > 50, "{}", all.len());
    let (mut lists, mut closed) = (0, 0);
    for (path, command) in &all {
        for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let place = format!("{} {}: {help}", path.join(" "), argument.get_id());
            let possible: Vec<String> =
                argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            let words = named(&help);
            for value in words.iter().chain(&possible) {
                assert!(is_taken(path, command, argument, value), "'{value}' is not taken: {place}");
            }
            if !(words.is_empty() && possible.is_empty()) {
                assert!(
                    !is_taken(path, command, argument, "nothing-of-the-sort"),
                    "more is taken than is named: {place}"
                );
            }
            if !possible.is_empty() {
                assert!(words.iter().all(|word| possible.contains(word)), "{possible:?}: {place}");
            }
            for default in argument.get_default_values() {
                let default = default.to_str().expect("text");
                assert!(is_taken(path, command, argument, default), "the default '{default}': {place}");
            }
            lists += usize::from(!words.is_empty());
            closed += usize::from(!possible.is_empty());
        }
    }
    assert!(lists >= 3 && closed >= 8, "{lists} {closed}");
}

/// The command lines in the messages of a source file, with something in place of what is filled in. Comments are for those
/// who read the source.
fn told(source: &str) -> Vec<Vec<String>> {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut joined = String::new();
    for line in code {
        match joined.strip_suffix('\\').map(str::len) {
            // A text that goes on in the next line.
            Some(length) => {
                joined.truncate(length);
                joined.push_str(line.trim_start());
            }
            None => {
                joined.push('\n');
                joined.push_str(line);
            }
        }
    }
    let mut found = Vec::new();
    for part in joined.split('`').filter(|part| part.starts_with("airlock ") && !part.contains('\n')) {
        // What follows is the shell's.
        let line = part.split(" < ").next().unwrap_or(part);
        found.push(filled_in(line).split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect());
    }
    found
}

/// `{name}` and `'two words'` become one word.
fn filled_in(text: &str) -> String {
    let (mut filled, mut inside) = (String::new(), None);
    for letter in text.chars() {
        match (inside, letter) {
            (None, '{') => inside = Some('}'),
            (None, '\'') => inside = Some('\''),
            (None, letter) => filled.push(letter),
            (Some(end), letter) if letter == end => {
                filled.push('x');
                inside = None;
            }
            (Some(_), _) => {}
        }
    }
    filled
}

#[test]
fn every_command_that_a_message_names_is_one() {
    fn walk(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => walk(&path, files),
                false if path.extension().is_some_and(|kind| kind == "rs") => files.push(path),
                false => {}
            }
        }
    }
    let host = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the host").to_owned();
    let mut files = Vec::new();
    for room in ["connectors", "api", "daemon", "engine", "store", "sandbox"] {
        walk(&host.join(room).join("src"), &mut files);
    }
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a file");
        for line in told(&source) {
            seen += 1;
            if let Err(error) = Arguments::command().try_get_matches_from(&line) {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default();
                wrong.push(format!("{}: `{}`: {why}", file.display(), line.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "these do not work as they are printed:\n{}", wrong.join("\n"));
    assert!(seen >= 30, "{seen}");
}

#[test]
fn lists_in_help_are_found() {
    for (help, words) in [
        ("How long: 10m, 2h [default: 10m]", &["10m", "2h"][..]),
        ("Whose: user, workspace or organization. More.", &["user", "workspace", "organization"]),
        ("JSON: a token, a password, a key", &[]),
        ("The answer: `{\"data\": …}`, `{\"text\": \"…\"}` or more", &[]),
        ("JSON, or @FILE with JSON in it", &[]),
        ("The folder [default: data]", &[]),
    ] {
        assert_eq!(named(help), words, "{help}");
    }
}
