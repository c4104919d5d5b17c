//! What earlier runs gave, so that one sees what fell. Each run of `make bench` appends a line of JSON to
//! `docs/bench-results.jsonl`: when, on which machine, at which commit, and ratios to the baseline of the same run. Figures
//! of different machines or hours do not compare; ratios nearly do.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Map, Value, json};

use super::Figures;

/// A ratio that is worse than the last one by more than this is told.
const MUCH: f64 = 0.2;

/// Ratios of a run to its baseline, by name. More is better.
fn ratios(figures: &Figures) -> Option<Map<String, Value>> {
    let baseline = *figures.get("sqlite_commits_per_s")?;
    let mut ratios = Map::new();
    for (name, value) in figures {
        let ratio = if name.ends_with("_steps_per_s") || name.ends_with("_executions_per_s") {
            value / baseline
        } else if ["one_step_p50_ms", "three_steps_p50_ms"].contains(name) {
            // How often it could be done while the baseline's commits of a second are made.
            1_000.0 / value / baseline
        } else {
            continue;
        };
        ratios.insert((*name).to_owned(), json!((ratio * 1_000.0).round() / 1_000.0));
    }
    Some(ratios)
}

/// Processor, cores and memory.
fn machine() -> String {
    let of = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = of("/proc/meminfo", "MemTotal");
    let kb: f64 = memory.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or_default();
    format!("{}, {cores} cores, {:.0} GB", of("/proc/cpuinfo", "model name"), kb / 1e6)
}

fn commit(root: &Path) -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(words).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { "+" };
    format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]))
}

/// The last line that this machine wrote.
fn last(text: &str, machine: &str) -> Option<Value> {
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line["machine"] == machine)
}

/// Says what fell since the last run on this machine, and keeps this one.
pub(super) fn keep(root: &Path, figures: &Figures) {
    let Some(ratios) = ratios(figures) else { return };
    let file: PathBuf = root.join("docs/bench-results.jsonl");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let machine = machine();
    match last(&before, &machine) {
        None => println!("the first results of this machine: {machine}"),
        Some(last) => {
            let mut fell = false;
            for (name, ratio) in &ratios {
                let (Some(then), Some(now)) = (last["ratios"][name].as_f64(), ratio.as_f64()) else {
                    continue;
                };
                if now < then * (1.0 - MUCH) {
                    fell = true;
                    println!(
                        "FELL by {:.0} %: {name}, {then} × the baseline at {}, {now} now",
                        (1.0 - now / then) * 100.0,
                        last["commit"]
                    );
                }
            }
            if !fell {
                println!("no ratio fell by more than {:.0} % since {}", MUCH * 100.0, last["commit"]);
            }
        }
    }
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%MZ"]).output();
    let date =
        date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let line = json!({ "date": date, "machine": machine, "commit": commit(root), "ratios": ratios });
    let kept = fs::OpenOptions::new().create(true).append(true).open(&file);
    kept.and_then(|mut file| writeln!(file, "{line}")).expect("docs/bench-results.jsonl can be written");
    println!("ratios appended to docs/bench-results.jsonl");
}
