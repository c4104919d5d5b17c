//! Reads OpenAPI documents and says what would be imported from each, what not and why, and how long it takes:
//!
//! ```text
//! cargo run --release -p airlock-connectors --example import -- FILE…
//! ```

use std::{collections::BTreeMap, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        return Err("give me OpenAPI documents, JSON or YAML".into());
    }
    println!(
        "| document | MB | operations | left out | stored MB | longest check | import | prepare all checks (slowest) |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut reasons = Vec::new();
    for file in files {
        let document = std::fs::read(&file)?;
        let megabytes = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let found = match airlock_connectors::survey(&document) {
            Ok(found) => found,
            Err(error) => {
                println!("| {file} | {:.1} | none: {error} | | | | | |", megabytes(document.len()));
                continue;
            }
        };
        println!(
            "| {file} | {:.1} | {} | {} | {:.1} | {} KB, {} shown shorter, {} cut | {:.2?} | {:.2?} ({:.2?}) |",
            megabytes(document.len()),
            found.operations,
            found.left_out.len(),
            megabytes(found.bytes),
            found.longest >> 10,
            found.shortened,
            found.cut,
            found.import,
            found.checks,
            found.slowest,
        );
        let mut counted: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for (operation, reason) in found.left_out {
            counted.entry(reason).or_insert((0, operation)).0 += 1;
        }
        reasons.extend(
            counted
                .into_iter()
                .map(|(reason, (times, first))| format!("{file}: {times} times, first {first}: {reason}")),
        );
    }
    println!();
    reasons.iter().for_each(|reason| println!("{reason}"));
    Ok(())
}
