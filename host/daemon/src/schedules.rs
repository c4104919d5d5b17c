//! `airlock schedules …`

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Datelike as _, NaiveDateTime, Timelike as _};
use chrono_tz::Tz;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::{
    client::{Daemon, segment},
    ended::Ended,
    output::{Output, Tone, plain, pretty, short, text},
    run::{Extensions, json_argument},
};

/// What to do with schedules.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start a workflow by the clock.
    Create {
        /// Name of the workflow.
        workflow: String,
        /// An id of your choice.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        definition: Box<Definition>,
    },
    /// List schedules.
    List {
        /// Only schedules of this workflow.
        #[arg(long)]
        workflow: Option<String>,
        /// Only those that are paused.
        #[arg(long)]
        paused: bool,
        /// Only your own.
        #[arg(long)]
        mine: bool,
    },
    /// Show one schedule.
    Show {
        /// Its id.
        id: String,
    },
    /// Let times pass by.
    Pause {
        /// Its id.
        id: String,
        /// Why, for others.
        #[arg(long)]
        note: Option<String>,
    },
    /// Let times count again. Those that passed by are not made up for.
    Resume {
        /// Its id.
        id: String,
        /// Why, for others.
        #[arg(long)]
        note: Option<String>,
    },
    /// Start an execution now, also of a paused schedule.
    Trigger {
        /// Its id.
        id: String,
        /// What to do when another still runs; as the schedule says if absent.
        #[arg(long)]
        overlap: Option<Overlap>,
    },
    /// Start executions for past times.
    Backfill {
        /// Its id.
        id: String,
        /// From this time on, such as 2026-11-01T00:00:00Z.
        #[arg(long)]
        from: String,
        /// Up to and with this time.
        #[arg(long)]
        to: String,
        /// What to do when another still runs; one after the other if absent.
        #[arg(long)]
        overlap: Option<Overlap>,
    },
    /// Change a schedule. New times replace all old ones; what is not given stays.
    Update {
        /// Its id.
        id: String,
        #[command(flatten)]
        definition: Box<Definition>,
    },
    /// Remove a schedule. Its executions go on.
    Delete {
        /// Its id.
        id: String,
    },
}

/// Times, input and policy.
#[derive(clap::Args)]
pub(crate) struct Definition {
    /// A cron expression such as '0 8 * * MON-FRI'; may be given several times.
    #[arg(long)]
    cron: Vec<String>,
    /// An interval such as 15m, 1h30m or 2days, counted from midnight UTC of 1970-01-01; may be given several times.
    #[arg(long)]
    every: Vec<String>,
    /// A single time: 2026-12-24T18:00 on the clock of --tz, or with a zone of its own; may be given several times.
    #[arg(long)]
    at: Vec<String>,
    /// The time zone of --cron and --at, such as Europe/Berlin. Default: UTC.
    #[arg(long)]
    tz: Option<String>,
    /// The input of every execution: JSON, or @FILE with JSON in it.
    #[arg(long)]
    input: Option<String>,
    /// What to do when another still runs. Default: skip.
    #[arg(long)]
    overlap: Option<Overlap>,
    /// Each start is later by a random time below this, such as 30s.
    #[arg(long)]
    jitter: Option<String>,
    /// Start no more than so many.
    #[arg(long)]
    max: Option<u32>,
    /// Nothing before this time, such as 2026-12-01T00:00:00Z.
    #[arg(long)]
    start_at: Option<String>,
    /// Nothing after this time.
    #[arg(long)]
    end_at: Option<String>,
    /// Times that the daemon missed are made up for if they are not older than this, such as 1h. Default: a year.
    #[arg(long)]
    catchup: Option<String>,
    /// Pause the schedule when an execution fails.
    #[arg(long)]
    pause_on_failure: bool,
    #[command(flatten)]
    extensions: Extensions,
    /// Call the services again, after --mock or --mock-connector.
    #[arg(long, conflicts_with_all = ["mock", "mock_connectors"])]
    no_mock: bool,
}

/// What to do when another execution of the schedule still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Overlap {
    /// Leave the time out.
    Skip,
    /// Let one wait, leave the others out.
    BufferOne,
    /// Let all wait for their turn.
    BufferAll,
    /// Ask what runs to stop, and start then.
    CancelOther,
    /// End what runs, and start then.
    TerminateOther,
    /// Start beside it.
    AllowAll,
}

impl Overlap {
    /// The number on the wire.
    fn wire(self) -> u8 {
        self as u8 + 1
    }
}

pub(crate) async fn main(daemon: &Daemon, command: Command, output: Output) -> anyhow::Result<Ended> {
    let path = |id: &str, rest: &str| format!("/v1/workflows/schedules/{}{rest}", segment(id));
    match command {
        Command::Create { workflow, id, definition } => {
            let mut schedule = match fields(&definition, None) {
                Ok(schedule) => schedule,
                Err(error) => return Ok(bad_input(&error)),
            };
            schedule.entry("input").or_insert_with(|| json!({}));
            let body = json!({ "workflow_identifier": workflow, "schedule_id": id, "schedule": schedule });
            let answer = daemon.post("/v1/workflows/schedules", &body).await?;
            let id = text(&answer["schedule_id"]);
            output.value(&answer, || println!("{id}"));
            warn(&answer, output);
            if !output.json {
                let shown = daemon.get(&path(&id, "")).await?;
                eprintln!("{} {}", output.paint(Tone::Quiet, "first at"), first_time(&shown));
            }
        }
        Command::List { workflow, paused, mine } => {
            let mut query = Vec::new();
            query.extend(workflow.map(|name| format!("workflow_name={}", segment(&name))));
            query.extend(paused.then(|| "status=paused".to_owned()));
            query.extend(mine.then(|| "user_id=current".to_owned()));
            let list = daemon.get(&format!("/v1/workflows/schedules?{}", query.join("&"))).await?;
            let rows: Vec<Vec<String>> =
                list["schedules"].as_array().into_iter().flatten().map(|row| line(row, output)).collect();
            output.value(&list["schedules"], || {
                output.table(&["SCHEDULE", "WORKFLOW", "STATE", "NEXT", "STARTED", "USER"], &rows);
            });
        }
        Command::Show { id } => {
            let schedule = daemon.get(&path(&id, "")).await?;
            output.value(&schedule, || show(&schedule, output));
        }
        Command::Pause { id, note } => {
            daemon.call(Method::POST, &path(&id, "/pause"), Some(&json!({ "note": note }))).await?;
            output.value(&Value::Null, || println!("{id} is paused"));
        }
        Command::Resume { id, note } => {
            daemon.call(Method::POST, &path(&id, "/resume"), Some(&json!({ "note": note }))).await?;
            let schedule = daemon.get(&path(&id, "")).await?;
            output.value(&Value::Null, || println!("{id} goes on, next at {}", first_time(&schedule)));
        }
        Command::Trigger { id, overlap } => {
            let body = json!({ "overlap": overlap.map(Overlap::wire) });
            daemon.call(Method::POST, &path(&id, "/trigger"), Some(&body)).await?;
            output.value(&Value::Null, || println!("an execution of {id} was asked for"));
        }
        Command::Backfill { id, from, to, overlap } => {
            let body = json!({ "start_at": from, "end_at": to, "overlap": overlap.map(Overlap::wire) });
            let path = format!("/v1/airlock/schedules/{}/backfill", segment(&id));
            daemon.call(Method::POST, &path, Some(&body)).await?;
            output.value(&Value::Null, || println!("executions of {id} from {from} to {to} were asked for"));
        }
        Command::Update { id, definition } => {
            let before = daemon.get(&path(&id, "")).await?;
            let schedule = match fields(&definition, Some(&before)) {
                Ok(schedule) if schedule.is_empty() => {
                    return Ok(bad_input(&anyhow::anyhow!("nothing to change was given: see --help")));
                }
                Ok(schedule) => schedule,
                Err(error) => return Ok(bad_input(&error)),
            };
            let body = json!({ "schedule": schedule });
            let answer = daemon.call(Method::PATCH, &path(&id, ""), Some(&body)).await?;
            output.value(&answer, || println!("{id} was changed"));
            warn(&answer, output);
        }
        Command::Delete { id } => {
            daemon.call(Method::DELETE, &path(&id, ""), None).await?;
            output.value(&Value::Null, || println!("{id} was removed"));
        }
    }
    Ok(Ended::Well)
}

/// What will keep its executions from working, as the daemon said.
fn warn(answer: &Value, output: Output) {
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        eprintln!("{} {}", output.paint(Tone::Bad, "warning"), plain(&text(warning)));
    }
}

fn bad_input(error: &anyhow::Error) -> Ended {
    eprintln!("airlock: {error:#}");
    Ended::BadInput
}

/// The fields of a definition that were given. `before` is the schedule that is changed.
fn fields(given: &Definition, before: Option<&Value>) -> anyhow::Result<Map<String, Value>> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.into(), value);
        }
    };
    if let Some(input) = &given.input {
        put("input", Some(json_argument("--input", input)?));
    }
    if !(given.cron.is_empty() && given.every.is_empty() && given.at.is_empty()) {
        let zone = given.tz.as_deref().or_else(|| before?["time_zone_name"].as_str()).unwrap_or("UTC");
        let zone: Tz = zone.parse().ok().with_context(|| {
            format!("'{zone}' is not a time zone: use a name such as Europe/Berlin, or UTC")
        })?;
        let at = given.at.iter().map(|text| single_time(text, zone)).collect::<anyhow::Result<Vec<_>>>()?;
        let every = given
            .every
            .iter()
            .map(|text| Ok(json!({ "every": duration("--every", text)? })))
            .collect::<anyhow::Result<Vec<_>>>()?;
        put("cron_expressions", Some(json!(given.cron)));
        put("intervals", Some(json!(every)));
        put("calendars", Some(json!(at)));
    }
    put("time_zone_name", given.tz.as_ref().map(|zone| json!(zone)));
    if let Some(jitter) = &given.jitter {
        put("jitter", Some(duration("--jitter", jitter)?.into()));
    }
    put("max_executions", given.max.map(|max| json!(max)));
    put("start_at", given.start_at.as_ref().map(|time| json!(time)));
    put("end_at", given.end_at.as_ref().map(|time| json!(time)));
    let catchup = given.catchup.as_deref().map(|text| seconds("--catchup", text)).transpose()?;
    if given.overlap.is_some() || catchup.is_some() || given.pause_on_failure {
        // A policy is replaced as a whole.
        let mut policy = before.map_or_else(|| json!({}), |before| before["policy"].clone());
        if let Some(overlap) = given.overlap {
            policy["overlap"] = overlap.wire().into();
        }
        if let Some(seconds) = catchup {
            policy["catchup_window_seconds"] = seconds.into();
        }
        if given.pause_on_failure {
            policy["pause_on_failure"] = true.into();
        }
        put("policy", Some(policy));
    }
    let extensions_before = before.map(|before| &before["extensions"]);
    let mut extensions = given.extensions.wire(extensions_before)?;
    if given.no_mock {
        let mut live = extensions.or_else(|| extensions_before.cloned()).unwrap_or_default();
        if let Value::Object(fields) = &mut live {
            fields.remove("airlock");
        }
        extensions = Some(live);
    }
    put("extensions", extensions);
    Ok(fields)
}

/// A calendar that has one time.
fn single_time(text: &str, zone: Tz) -> anyhow::Result<Value> {
    let local = DateTime::parse_from_rfc3339(text)
        .map(|time| time.with_timezone(&zone).naive_local())
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S"))
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
        .ok()
        .with_context(|| {
            format!("--at takes a time such as 2026-12-24T18:00 or 2026-12-24T18:00:00Z, not '{text}'")
        })?;
    let only = |value: u32| json!([{ "start": value }]);
    Ok(json!({
        "year": [{ "start": local.year() }], "month": only(local.month()), "day_of_month": only(local.day()),
        "hour": only(local.hour()), "minute": only(local.minute()), "second": only(local.second()),
    }))
}

/// An ISO 8601 duration, or one in the words of people.
fn duration(flag: &str, text: &str) -> anyhow::Result<String> {
    if text.starts_with(['P', 'p']) {
        return Ok(text.to_owned());
    }
    let length = people_duration(flag, text)?;
    Ok(match length.subsec_millis() {
        0 => format!("PT{}S", length.as_secs()),
        millis => format!("PT{}.{millis:03}S", length.as_secs()),
    })
}

fn seconds(flag: &str, text: &str) -> anyhow::Result<u64> {
    Ok(people_duration(flag, text)?.as_secs())
}

fn people_duration(flag: &str, text: &str) -> anyhow::Result<Duration> {
    humantime::parse_duration(text)
        .with_context(|| format!("{flag} takes a duration such as 30s, 15m, 1h30m or 2days, not '{text}'"))
}

fn first_time(schedule: &Value) -> String {
    match schedule["future_executions"][0]["scheduled_at"].as_str() {
        Some(time) => minute(time),
        None if schedule["paused"] == true => "(paused)".into(),
        None => "(never)".into(),
    }
}

/// A time without the fraction of its second.
fn minute(time: &str) -> String {
    format!("{}Z", time.chars().take(19).collect::<String>())
}

fn state(schedule: &Value, output: Output) -> String {
    if schedule["paused"] == true {
        output.paint(Tone::Busy, "paused")
    } else if schedule["remaining_executions"] == 0 {
        output.paint(Tone::Quiet, "done")
    } else {
        output.paint(Tone::Good, "active")
    }
}

fn line(schedule: &Value, output: Output) -> Vec<String> {
    vec![
        text(&schedule["schedule_id"]),
        text(&schedule["workflow_name"]),
        state(schedule, output),
        first_time(schedule),
        text(&schedule["scheduled"]["started"]),
        text(&schedule["user_id"]),
    ]
}

fn show(schedule: &Value, output: Output) {
    let label = |name: &str| output.paint(Tone::Quiet, &format!("{name:<10}"));
    for (name, key) in [
        ("schedule", "schedule_id"),
        ("workflow", "workflow_name"),
        ("user", "user_id"),
        ("zone", "time_zone_name"),
        ("from", "start_at"),
        ("to", "end_at"),
        ("jitter", "jitter"),
        ("left", "remaining_executions"),
        ("note", "note"),
    ] {
        if !schedule[key].is_null() {
            println!("{} {}", label(name), text(&schedule[key]));
        }
    }
    println!("{} {}", label("state"), state(schedule, output));
    let each = |key: &str| schedule[key].as_array().cloned().unwrap_or_default();
    for expression in each("cron_expressions") {
        println!("{} {}", label("cron"), text(&expression));
    }
    for interval in each("intervals") {
        let offset =
            interval["offset"].as_str().map_or_else(String::new, |offset| format!(" + {}", plain(offset)));
        println!("{} {}{offset}", label("every"), text(&interval["every"]));
    }
    for (name, key) in [("calendar", "calendars"), ("skip", "skip")] {
        for mut calendar in each(key) {
            if let Some(fields) = calendar.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            println!("{} {}", label(name), plain(&calendar.to_string()));
        }
    }
    let (policy, scheduled, by_hand) = (&schedule["policy"], &schedule["scheduled"], &schedule["by_hand"]);
    let overlap = clap::ValueEnum::to_possible_value;
    let overlap = <Overlap as clap::ValueEnum>::value_variants()
        .iter()
        .find(|variant| policy["overlap"] == variant.wire())
        .and_then(overlap)
        .map_or_else(String::new, |value| value.get_name().to_owned());
    println!("{} {overlap}", label("overlap"));
    let counters = |counters: &Value| {
        format!(
            "{} started, {} skipped, {} missed, {} failed",
            counters["started"], counters["skipped"], counters["missed"], counters["failed"]
        )
    };
    println!("{} {}", label("times"), counters(scheduled));
    println!("{} {}", label("by hand"), counters(by_hand));
    if schedule["last_failure"].is_object() {
        let failure = &schedule["last_failure"];
        let when = minute(&text(&failure["scheduled_at"]));
        println!("{} {when}: {}", label("failure"), short(&text(&failure["reason"]), 500));
    }
    for run in each("recent_executions") {
        println!(
            "{} {} {}",
            label("recent"),
            minute(&text(&run["scheduled_at"])),
            text(&run["execution_id"])
        );
    }
    for run in each("future_executions") {
        println!("{} {}", label("next"), minute(&text(&run["scheduled_at"])));
    }
    match &schedule["extensions"]["airlock"]["mocks"] {
        Value::Bool(true) => println!("{} all tool calls are answered from mocks", label("mocks")),
        Value::Array(names) => {
            let names: Vec<String> = names.iter().map(text).collect();
            println!("{} {}", label("mocks"), plain(&names.join(", ")));
        }
        _ => {}
    }
    println!("{}\n{}", label("input"), pretty(&schedule["input"]));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        definition: Definition,
    }

    fn given(arguments: &[&str], before: Option<&Value>) -> anyhow::Result<Value> {
        let line = Line::try_parse_from([&["x"], arguments].concat())?;
        fields(&line.definition, before).map(Value::Object)
    }

    #[test]
    fn flags_become_the_definition_of_the_wire() {
        let arguments = [
            "--cron",
            "0 8 * * *",
            "--every",
            "1h30m",
            "--every",
            "PT5S",
            "--at",
            "2026-12-24T18:00",
            "--tz",
            "Europe/Berlin",
            "--input",
            "{\"n\":1}",
            "--overlap",
            "buffer-all",
            "--jitter",
            "1500ms",
            "--max",
            "3",
        ];
        let expected = json!({
            "cron_expressions": ["0 8 * * *"],
            "intervals": [{ "every": "PT5400S" }, { "every": "PT5S" }],
            "calendars": [{ "year": [{ "start": 2026 }], "month": [{ "start": 12 }], "day_of_month": [{ "start": 24 }],
                "hour": [{ "start": 18 }], "minute": [{ "start": 0 }], "second": [{ "start": 0 }] }],
            "time_zone_name": "Europe/Berlin", "input": { "n": 1 }, "policy": { "overlap": 3 }, "jitter": "PT1.500S",
            "max_executions": 3,
        });
        assert_eq!(given(&arguments, None).expect("is read"), expected);
    }

    #[test]
    fn a_time_with_a_zone_is_put_on_the_clock_of_the_schedule() {
        let read = given(&["--at", "2026-07-01T23:30:00Z", "--tz", "Europe/Berlin"], None).expect("is read");
        let calendar = &read["calendars"][0];
        assert_eq!(
            (&calendar["day_of_month"][0]["start"], &calendar["hour"][0]["start"]),
            (&json!(2), &json!(1))
        );
    }

    #[test]
    fn a_change_replaces_all_times_and_keeps_the_rest_of_the_policy() {
        let before = json!({ "time_zone_name": "Asia/Kolkata",
            "policy": { "overlap": 1, "catchup_window_seconds": 60, "pause_on_failure": true } });
        let changed = given(&["--every", "1h", "--overlap", "allow-all"], Some(&before)).expect("is read");
        let expected = json!({ "cron_expressions": [], "calendars": [], "intervals": [{ "every": "PT3600S" }],
            "policy": { "overlap": 6, "catchup_window_seconds": 60, "pause_on_failure": true } });
        assert_eq!(changed, expected);
        assert_eq!(
            given(&["--catchup", "2h"], Some(&before)).expect("is read")["policy"]["catchup_window_seconds"],
            7200
        );
        assert_eq!(given(&[], Some(&before)).expect("is read"), json!({}));
    }

    #[test]
    fn mocks_are_given_kept_and_taken_back() {
        let mocked = json!({ "extensions": { "airlock": { "mocks": true } } });
        assert_eq!(given(&["--mock"], None).expect("is read"), mocked);
        let some = json!({ "extensions": { "airlock": { "mocks": ["crm", "todos"] } } });
        let arguments = ["--mock-connector", "crm", "--mock-connector", "todos"];
        assert_eq!(given(&arguments, Some(&mocked)).expect("is read"), some);
        assert_eq!(given(&["--every", "1h"], Some(&some)).expect("is read")["extensions"], Value::Null);
        let both = given(&["--credential", "crm=work"], Some(&mocked)).expect("is read");
        assert_eq!(both["extensions"]["airlock"], mocked["extensions"]["airlock"], "mocks stay");
        assert_eq!(given(&["--no-mock"], Some(&mocked)).expect("is read"), json!({ "extensions": {} }));
        assert!(given(&["--mock", "--no-mock"], None).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_an_example() {
        for (arguments, says) in [
            (&["--every", "soon"][..], "1h30m"),
            (&["--at", "tomorrow"], "2026-12-24T18:00"),
            (&["--cron", "@daily", "--tz", "Berlin"], "Europe/Berlin"),
            (&["--input", "{"], "not JSON"),
        ] {
            let error = given(arguments, None).expect_err("is refused").to_string();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
