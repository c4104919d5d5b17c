//! `airlock schedules …`

use std::time::Duration;

use airlock_engine::Json;
use anyhow::{Context as _, bail};
use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeZone as _, Timelike as _, Utc};
use chrono_tz::Tz;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    client::{Daemon, read, segment},
    document::{self, laid_out, part},
    ended::{Ended, Misuse},
    output::{Output, Tone, plain, say, short, text},
    run::Extensions,
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
    /// The input of every execution: JSON, @FILE with JSON in it, or @- with JSON on standard input.
    #[arg(long, value_parser = document::given)]
    input: Option<Json>,
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
            let schedule = fields(&definition, None).map_err(|error| Misuse::of(&error))?;
            let input = definition.input.clone().unwrap_or_else(|| Json::from(json!({})));
            let body = Wire {
                workflow_identifier: Some(workflow),
                schedule_id: id,
                schedule: Given { fields: schedule, input: Some(input) },
            };
            let answer = daemon.ask(Method::POST, "/v1/workflows/schedules", Some(&body)).await?;
            let answer = read(&answer)?;
            let id = text(&answer["schedule_id"]);
            output.value(&answer, || say!("{id}"));
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
            let answer = daemon.text(&path(&id, "")).await?;
            let schedule = read(&answer)?;
            output.document(&answer, || show(&schedule, part(&answer, &["input"]), output));
        }
        Command::Pause { id, note } => {
            daemon.call(Method::POST, &path(&id, "/pause"), Some(&json!({ "note": note }))).await?;
            output.value(&Value::Null, || say!("{id} is paused"));
        }
        Command::Resume { id, note } => {
            daemon.call(Method::POST, &path(&id, "/resume"), Some(&json!({ "note": note }))).await?;
            let schedule = daemon.get(&path(&id, "")).await?;
            output.value(&Value::Null, || say!("{id} goes on, next at {}", first_time(&schedule)));
        }
        Command::Trigger { id, overlap } => {
            let body = json!({ "overlap": overlap.map(Overlap::wire) });
            let skipped = daemon.post_for_header(&path(&id, "/trigger"), &body, "airlock-skipped").await?;
            if let Some(reason) = skipped {
                let answer = json!({ "skipped": reason });
                output.value(&answer, || say!("nothing was started for {id}: {}", short(&reason, 500)));
                return Ok(Ended::Failed);
            }
            output.value(&json!({ "skipped": null }), || say!("an execution of {id} was asked for"));
        }
        Command::Backfill { id, from, to, overlap } => {
            let body = json!({ "start_at": from, "end_at": to, "overlap": overlap.map(Overlap::wire) });
            let path = format!("/v1/airlock/schedules/{}/backfill", segment(&id));
            daemon.call(Method::POST, &path, Some(&body)).await?;
            output.value(&Value::Null, || say!("executions of {id} from {from} to {to} were asked for"));
        }
        Command::Update { id, definition } => {
            let before = daemon.get(&path(&id, "")).await?;
            let schedule = fields(&definition, Some(&before)).map_err(|error| Misuse::of(&error))?;
            if schedule.is_empty() && definition.input.is_none() {
                return Err(Misuse("nothing to change was given: see --help".into()).into());
            }
            let schedule = Given { fields: schedule, input: definition.input.clone() };
            let body = Wire { workflow_identifier: None, schedule_id: None, schedule };
            let answer = daemon.ask(Method::PATCH, &path(&id, ""), Some(&body)).await?;
            let answer = read(&answer)?;
            output.value(&answer, || say!("{id} was changed"));
            warn(&answer, output);
        }
        Command::Delete { id } => {
            daemon.call(Method::DELETE, &path(&id, ""), None).await?;
            output.value(&Value::Null, || say!("{id} was removed"));
        }
    }
    Ok(Ended::Well)
}

/// What is sent.
#[derive(Serialize)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow_identifier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_id: Option<String>,
    schedule: Given,
}

/// The definition, as far as it was given.
#[derive(Serialize)]
struct Given {
    #[serde(flatten)]
    fields: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Json>,
}

/// What will keep its executions from working, as the daemon said.
fn warn(answer: &Value, output: Output) {
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        eprintln!("{} {}", output.paint(Tone::Bad, "warning"), plain(&text(warning)));
    }
}

/// The fields of a definition that were given. `before` is the schedule that is changed.
fn fields(given: &Definition, before: Option<&Value>) -> anyhow::Result<Map<String, Value>> {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.into(), value);
        }
    };
    // A list of instants needs no clock: on one that is put back, two of them look the same.
    let is_of_instants = given.cron.is_empty()
        && given.every.is_empty()
        && !given.at.is_empty()
        && given.at.iter().all(|text| DateTime::parse_from_rfc3339(text).is_ok());
    if !(given.cron.is_empty() && given.every.is_empty() && given.at.is_empty()) {
        let zone = given.tz.as_deref().or_else(|| before?["time_zone_name"].as_str()).unwrap_or("UTC");
        let zone: Tz = zone.parse().ok().with_context(|| {
            format!("'{zone}' is not a time zone: use a name such as Europe/Berlin, or UTC")
        })?;
        let clock = if is_of_instants { Tz::UTC } else { zone };
        let at = given.at.iter().map(|text| single_time(text, clock)).collect::<anyhow::Result<Vec<_>>>()?;
        let every = given
            .every
            .iter()
            .map(|text| Ok(json!({ "every": duration("--every", text)? })))
            .collect::<anyhow::Result<Vec<_>>>()?;
        put("cron_expressions", Some(json!(given.cron)));
        put("intervals", Some(json!(every)));
        put("calendars", Some(json!(at)));
    }
    let clock = if is_of_instants { Some("UTC") } else { given.tz.as_deref() };
    put("time_zone_name", clock.map(Value::from));
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

/// A calendar that has one time, which is still to come.
fn single_time(text: &str, zone: Tz) -> anyhow::Result<Value> {
    let on_the_clock = || {
        let read = |form| NaiveDateTime::parse_from_str(text, form);
        read("%Y-%m-%dT%H:%M:%S").or_else(|_| read("%Y-%m-%dT%H:%M")).with_context(|| {
            format!("--at takes a time such as 2026-12-24T18:00 or 2026-12-24T18:00:00Z, not '{text}'")
        })
    };
    let instant = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.with_timezone(&zone),
        Err(_) => zone.from_local_datetime(&on_the_clock()?).earliest().with_context(|| {
            format!("--at {text} does not exist in {zone}: the clock is put forward there")
        })?,
    };
    let local = instant.naive_local();
    // What is on the clock twice is meant the first time.
    if zone.from_local_datetime(&local).earliest() != Some(instant) {
        bail!(
            "--at {text} is the second {} in {zone}, where the clock is put back: give it a schedule of its own, with times \
             that name their zone and nothing else",
            local.format("%H:%M:%S")
        );
    }
    if instant < Utc::now() {
        bail!("--at {text} is past");
    }
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
    let is_of_the_calendar =
        |word: &str| word.starts_with("month") || word.starts_with("year") || matches!(word, "M" | "y");
    if text.split(|c: char| !c.is_alphabetic()).any(is_of_the_calendar) {
        bail!(
            "{flag} {text}: months and years are of different lengths; use --cron, such as '0 0 1 * *' for each month"
        );
    }
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

fn show(schedule: &Value, input: Option<&RawValue>, output: Output) {
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
            say!("{} {}", label(name), text(&schedule[key]));
        }
    }
    say!("{} {}", label("state"), state(schedule, output));
    let each = |key: &str| schedule[key].as_array().cloned().unwrap_or_default();
    for expression in each("cron_expressions") {
        say!("{} {}", label("cron"), text(&expression));
    }
    for interval in each("intervals") {
        let offset =
            interval["offset"].as_str().map_or_else(String::new, |offset| format!(" + {}", plain(offset)));
        say!("{} {}{offset}", label("every"), text(&interval["every"]));
    }
    for (name, key) in [("calendar", "calendars"), ("skip", "skip")] {
        for mut calendar in each(key) {
            if let Some(fields) = calendar.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            say!("{} {}", label(name), plain(&calendar.to_string()));
        }
    }
    let (policy, scheduled, by_hand) = (&schedule["policy"], &schedule["scheduled"], &schedule["by_hand"]);
    let overlap = clap::ValueEnum::to_possible_value;
    let overlap = <Overlap as clap::ValueEnum>::value_variants()
        .iter()
        .find(|variant| policy["overlap"] == variant.wire())
        .and_then(overlap)
        .map_or_else(String::new, |value| value.get_name().to_owned());
    say!("{} {overlap}", label("overlap"));
    let counters = |counters: &Value| {
        format!(
            "{} started, {} skipped, {} missed, {} failed",
            counters["started"], counters["skipped"], counters["missed"], counters["failed"]
        )
    };
    say!("{} {}", label("times"), counters(scheduled));
    say!("{} {}", label("by hand"), counters(by_hand));
    for backfill in each("backfills") {
        let (done, end) = (minute(&text(&backfill["done_up_to"])), minute(&text(&backfill["end_at"])));
        say!("{} done up to {done}, ends at {end}; a pause stops it", label("backfill"));
    }
    if schedule["last_skipped"].is_object() {
        let skipped = &schedule["last_skipped"];
        let when = minute(&text(&skipped["scheduled_at"]));
        say!("{} {when}: {}", label("skipped"), short(&text(&skipped["reason"]), 500));
    }
    if schedule["last_failure"].is_object() {
        let failure = &schedule["last_failure"];
        let when = minute(&text(&failure["scheduled_at"]));
        say!("{} {when}: {}", label("failure"), short(&text(&failure["reason"]), 500));
    }
    for run in each("recent_executions") {
        say!("{} {} {}", label("recent"), minute(&text(&run["scheduled_at"])), text(&run["execution_id"]));
    }
    for run in each("future_executions") {
        say!("{} {}", label("next"), minute(&text(&run["scheduled_at"])));
    }
    match &schedule["extensions"]["airlock"]["mocks"] {
        Value::Bool(true) => say!("{} all tool calls are answered from mocks", label("mocks")),
        Value::Array(names) => {
            let names: Vec<String> = names.iter().map(text).collect();
            say!("{} {}", label("mocks"), plain(&names.join(", ")));
        }
        _ => {}
    }
    say!("{}\n{}", label("input"), laid_out(input.map_or("null", RawValue::get)));
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
        let fields = fields(&line.definition, before)?;
        Ok(serde_json::to_value(Given { fields, input: line.definition.input })?)
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
            "2096-12-24T18:00",
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
            "calendars": [{ "year": [{ "start": 2096 }], "month": [{ "start": 12 }], "day_of_month": [{ "start": 24 }],
                "hour": [{ "start": 18 }], "minute": [{ "start": 0 }], "second": [{ "start": 0 }] }],
            "time_zone_name": "Europe/Berlin", "input": { "n": 1 }, "policy": { "overlap": 3 }, "jitter": "PT1.500S",
            "max_executions": 3,
        });
        assert_eq!(given(&arguments, None).expect("is read"), expected);
    }

    #[test]
    fn a_time_with_a_zone_is_put_on_the_clock_of_the_schedule() {
        let read = given(&["--at", "2096-07-01T23:30:00Z", "--every", "1h", "--tz", "Europe/Berlin"], None)
            .expect("is read");
        let calendar = &read["calendars"][0];
        assert_eq!(
            (&calendar["day_of_month"][0]["start"], &calendar["hour"][0]["start"]),
            (&json!(2), &json!(1))
        );
    }

    #[test]
    fn a_list_of_instants_is_kept_to_the_second_whatever_the_clocks_do() {
        for at in ["2096-10-28T00:30:00Z", "2096-10-28T01:30:00Z", "2096-10-28T02:30:00+01:00"] {
            let read = given(&["--at", at, "--tz", "Europe/Berlin"], None).expect("is read");
            let hour = DateTime::parse_from_rfc3339(at).expect("a time").with_timezone(&Utc).hour();
            assert_eq!(read["time_zone_name"], "UTC");
            assert_eq!(read["calendars"][0]["hour"][0]["start"], hour, "{at}");
        }
        // Beside what follows the clock, the hour that comes twice is meant the first time.
        let beside = |at| given(&["--at", at, "--cron", "0 9 * * *", "--tz", "Europe/Berlin"], None);
        assert_eq!(beside("2096-10-28T00:30:00Z").expect("is read")["calendars"][0]["hour"][0]["start"], 2);
        assert!(beside("2096-10-28T01:30:00Z").expect_err("is refused").to_string().contains("put back"));
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
            (&["--at", "2096-03-25T02:30", "--tz", "Europe/Berlin"], "does not exist in Europe/Berlin"),
            (&["--at", "2020-01-01T00:00:00Z"], "is past"),
            (&["--every", "1month"], "--cron"),
            (&["--every", "1year 2h"], "--cron"),
            (&["--catchup", "2M"], "--cron"),
        ] {
            let error = given(arguments, None).expect_err("is refused").to_string();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
