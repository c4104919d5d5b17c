//! docs/security.md tells the truth: each row of the threats is there with tests of its number, and whatever the page points
//! to exists.

use std::{collections::BTreeSet, fs};

use airlock_tests::root;

/// The rows of THREATS.md.
const ROWS: u32 = 27;

fn page() -> String {
    fs::read_to_string(root().join("docs/security.md")).expect("reads")
}

/// Links of the shape [`name`](path), with the path relative to docs/.
fn links(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in text.split("[`").skip(1) {
        if let Some((name, rest)) = part.split_once("`](")
            && let Some((path, _)) = rest.split_once(')')
        {
            found.push((name.to_owned(), path.to_owned()));
        }
    }
    found
}

/// The numbers at the beginning of a test's name: `row_05_…`, `rows_1_16_…`, `rows_2_and_18_…`.
fn numbers(name: &str) -> BTreeSet<u32> {
    let Some(rest) = name.strip_prefix("rows_").or_else(|| name.strip_prefix("row_")) else {
        return BTreeSet::new();
    };
    rest.split('_')
        .take_while(|word| *word == "and" || word.parse::<u32>().is_ok())
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn table() -> Vec<(u32, String)> {
    let page = page();
    let rows = page.lines().filter_map(|line| {
        let number = line.strip_prefix("| ")?.split(" |").next()?.parse().ok()?;
        Some((number, line.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_row_is_in_the_table_with_a_test_of_its_number_and_a_defence() {
    let table = table();
    let numbered: Vec<u32> = table.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbered, (1..=ROWS).collect::<Vec<_>>());
    for (number, line) in table {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "row {number}: number, threat, defence, tests");
        assert!(!links(cells[2]).is_empty(), "row {number} does not say where its defence is");
        let tests = links(cells[3]);
        let of_row = tests.iter().filter(|(name, _)| numbers(name).contains(&number));
        assert!(of_row.count() > 0, "row {number} has no test with its number");
        for (name, path) in tests {
            let text = fs::read_to_string(root().join("docs").join(&path)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let place = lines.iter().position(|line| line.contains(&format!("fn {name}(")));
            let above = place.map_or(&[][..], |at| &lines[at.saturating_sub(2)..at]);
            let is_test = above.iter().any(|line| line.starts_with("#[") && line.contains("test"));
            assert!(is_test, "row {number}: {path} has no test {name}");
        }
    }
}

/// What a red team did: rows `A1` to `A26`, each with a test whose name begins with its number.
#[test]
fn every_attack_is_in_the_table_with_a_test_of_its_number_and_a_defence() {
    let page = page();
    for number in 1..=26 {
        let start = format!("| A{number} | ");
        let line = page.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("there is no row A{number}"));
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "row A{number}: number, attack, defence, tests");
        assert!(!links(cells[2]).is_empty(), "row A{number} does not say where its defence is");
        let own = format!("a{number:02}_");
        let tests = links(cells[3]);
        assert!(tests.iter().any(|(name, _)| name.starts_with(&own)), "row A{number} has no test");
        for (name, path) in tests {
            let text = fs::read_to_string(root().join("docs").join(&path)).unwrap_or_default();
            assert!(text.contains(&format!("fn {name}(")), "row A{number}: {path} has no test {name}");
        }
    }
}

#[test]
fn whatever_the_page_points_to_is_there() {
    let links = links(&page());
    assert!(links.len() > 80, "{} links", links.len());
    for (name, path) in links {
        let file = root().join("docs").join(path.split('#').next().unwrap_or_default());
        let text = fs::read_to_string(&file).unwrap_or_else(|_| panic!("{path} does not exist"));
        let file_name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(name == file_name || text.contains(&name), "{path} says nothing of {name}");
    }
}
