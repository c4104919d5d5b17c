//! How long lists take with many finished runs, and what a start and an end cost beside them.
//!
//! `cargo bench -p airlock-store --bench lists --profile release -- [ROWS]`, 1,000,000 rows if nothing else is said. Fills a
//! database in a temporary folder (`TMPDIR`), then asks each filter many times with values that change, and prints a
//! table; the lines that begin with `figure` are for programs: `figure NAME p50_ms p99_ms`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Parent, ParentClose, Record, SearchValue},
    store::{Append, ExecutionRow, ListFilter, SearchMatch, SearchTerm, Sort, Start, Status, Store},
};
use airlock_store::SqliteStore;
use futures::executor::block_on;
use rand::{Rng, SeedableRng, rngs::StdRng};

const WORKFLOWS: u64 = 20;
const USERS: u64 = 50;
const WORKSPACES: u64 = 3;
/// Runs of open executions beside the finished ones.
const OPEN: u64 = 2_000;
const PAGE: usize = 50;
const ASKED: usize = 300;

fn main() {
    let rows = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000_u64);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(folder.path(), &[1; 32]).expect("the store opens");
    let mut random = StdRng::seed_from_u64(1);
    println!("with no indexes for lists and runs, for comparison:");
    without_indexes();
    println!("\nbefore anything is in it:");
    cost_of_a_start(&store, &mut random, "empty");
    let began = Instant::now();
    fill(&store, &mut random, rows);
    let size = std::fs::metadata(folder.path().join("airlock.db")).map_or(0, |file| file.len());
    println!(
        "\n{rows} finished runs in {:.0} s, {:.0} bytes a run in the database",
        began.elapsed().as_secs_f64(),
        size as f64 / rows as f64
    );
    cost_of_a_start(&store, &mut random, "full");
    lists(&store, &mut random, rows);
    purge(&store);
}

/// The same database without what lists need, to see what that costs.
fn without_indexes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(SqliteStore::open(folder.path(), &[1; 32]).expect("the store opens"));
    let database = rusqlite::Connection::open(folder.path().join("airlock.db")).expect("opens");
    for index in ["executions_run", "ended_by_start", "ended_by_end", "ended_by_owner", "ended_by_workflow"] {
        database.execute(&format!("DROP INDEX {index}"), []).expect("drops");
    }
    drop(database);
    let store = SqliteStore::open(folder.path(), &[1; 32]).expect("the store opens");
    cost_of_a_start(&store, &mut StdRng::seed_from_u64(1), "bare");
}

/// Runs in the order of their starts, a millisecond apart; the popular half of the users has most of them.
fn run(random: &mut StdRng, store: &SqliteStore, number: u64, open: bool) -> Append {
    let id: ExecutionId = match number % 4 {
        0 => format!("order-{number:08}").parse().expect("valid"),
        _ => ExecutionId::generate(),
    };
    let user = random.random_range(0..USERS).min(random.random_range(0..USERS));
    let started_at = time(number);
    let status = match random.random_range(0..100) {
        0..=87 => Status::Completed,
        88..=94 => Status::Failed,
        95..=96 => Status::Canceled,
        97 => Status::Terminated,
        98 => Status::TimedOut,
        _ => Status::ContinuedAsNew,
    };
    // One in twenty is a child in a tree of fifty.
    let parent = number.is_multiple_of(20).then(|| Parent {
        id: format!("top-{}", number / 1_000).parse().expect("valid"),
        run: ExecutionKey(1),
        seq: 1,
        close: ParentClose::Terminate,
    });
    let row = ExecutionRow {
        key: store.allocate(),
        run_id: RunId::generate(),
        workflow: format!("workflow-{:02}", random.random_range(0..WORKFLOWS)),
        digest: Digest([1; 32]),
        principal: Principal {
            user: UserId::new(format!("user-{user:02}")),
            workspace: WorkspaceId::new(format!("workspace-{}", user % WORKSPACES)),
            organization: OrganizationId::new("organization"),
        },
        status: Status::Running,
        started_at,
        ended_at: None,
        root: parent.as_ref().map_or_else(|| id.clone(), |parent| parent.id.clone()),
        parent,
        schedule: number.is_multiple_of(30).then(|| format!("schedule-{}", number / 30 % 40)),
        id,
    };
    let mut search_keys = Vec::new();
    if number.is_multiple_of(10) {
        let text = |text: String| SearchValue::Text(text);
        search_keys.push(("customer".into(), text(format!("Customer {}", random.random_range(0..20_000)))));
        search_keys.push((
            "region".into(),
            text(["North", "South", "East", "West"][number as usize / 10 % 4].into()),
        ));
    }
    Append {
        end: (!open).then(|| (status, started_at + random.random_range(10..60_000))),
        search_keys,
        start: Some(Box::new(Start { replaces: None, row })),
        ..Append::records(ExecutionKey(0), 0, started_at, vec![Record::Unblocked])
    }
}

fn time(number: u64) -> u64 {
    1_700_000_000_000 + 1_000 * number
}

fn with_key(mut append: Append) -> Append {
    append.key = append.start.as_ref().map_or(append.key, |start| start.row.key);
    append
}

fn fill(store: &Arc<SqliteStore>, random: &mut StdRng, rows: u64) {
    let mut number = 0;
    while number < rows + OPEN {
        let count = 20_000.min(rows + OPEN - number);
        let appends =
            (number..number + count).map(|number| with_key(run(random, store, number, number >= rows)));
        together(store, appends.collect());
        number += count;
    }
}

/// Appends from two threads at once, so that they share commits.
fn together(store: &Arc<SqliteStore>, mut appends: Vec<Append>) {
    let half = appends.split_off(appends.len() / 2);
    let submit = |appends: Vec<Append>| {
        let pending: Vec<_> = appends.into_iter().map(|append| store.append(append)).collect();
        pending.into_iter().for_each(|done| {
            block_on(done).expect("appends");
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(|| submit(half));
        submit(appends);
    });
}

/// A start and an end, each by itself.
fn cost_of_a_start(store: &Arc<SqliteStore>, random: &mut StdRng, name: &str) {
    let (mut starts, mut ends, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..500 {
        let mut append = with_key(run(random, store, 1, true));
        if let Some(start) = &mut append.start {
            start.row.id = ExecutionId::generate();
            start.row.root = start.row.id.clone();
            start.row.parent = None;
        }
        let key = append.key;
        starts.push(timed(|| block_on(store.append(append)).map(|_| ()).expect("appends")));
        let step = Append::records(key, 1, 1, vec![Record::Unblocked]);
        steps.push(timed(|| block_on(store.append(step)).map(|_| ()).expect("appends")));
        let end = Append {
            end: Some((Status::Completed, time(2_000_000))),
            ..Append::records(key, 2, 1, vec![Record::Unblocked])
        };
        ends.push(timed(|| block_on(store.append(end)).map(|_| ()).expect("appends")));
    }
    // Many at once: what a start and an end cost in processor time and pages, not in syncs.
    let births: Vec<_> = (0..20_000)
        .map(|_| {
            let mut append = with_key(run(random, store, 1, true));
            if let Some(start) = &mut append.start {
                start.row.id = ExecutionId::generate();
                start.row.root = start.row.id.clone();
                start.row.parent = None;
            }
            append
        })
        .collect();
    let deaths: Vec<_> = births
        .iter()
        .map(|birth| Append {
            end: Some((Status::Completed, time(2_000_000))),
            ..Append::records(birth.key, 1, 1, vec![Record::Unblocked])
        })
        .collect();
    let (began, ended) = (timed(|| together(store, births)), timed(|| together(store, deaths)));
    report(&format!("{name}_start"), &mut starts);
    report(&format!("{name}_step"), &mut steps);
    report(&format!("{name}_end"), &mut ends);
    for (what, time) in [("starts", began), ("ends", ended)] {
        let each = time.as_secs_f64() * 1e6 / 20_000.0;
        println!("{:<34} {each:>9.1} µs each", format!("{name}: 20,000 {what} at once"));
    }
}

fn lists(store: &Arc<SqliteStore>, random: &mut StdRng, rows: u64) {
    println!("\n{:<34} {:>9} {:>9}", "list of 50", "p50 ms", "p99 ms");
    type Make = fn(&mut StdRng, u64) -> ListFilter;
    let filters: &[(&str, Make)] = &[
        ("everything", |_, _| ListFilter::default()),
        ("workspace", |random, _| owner(random, false)),
        ("user", |random, _| owner(random, true)),
        ("user_by_end", |random, _| ListFilter { sort: Sort::NewestEnd, ..owner(random, true) }),
        ("user_workflow", |random, _| ListFilter { workflows: workflow(random), ..owner(random, true) }),
        ("user_workflow_failed", |random, _| ListFilter {
            workflows: workflow(random),
            status: vec![Status::Failed],
            ..owner(random, true)
        }),
        ("user_timed_out", |random, _| ListFilter { status: vec![Status::TimedOut], ..owner(random, true) }),
        ("user_timed_out_by_end", |random, _| ListFilter {
            status: vec![Status::TimedOut],
            sort: Sort::OldestEnd,
            ..owner(random, true)
        }),
        ("workflow", |random, _| ListFilter { workflows: workflow(random), ..ListFilter::default() }),
        ("workflow_by_end", |random, _| ListFilter {
            workflows: workflow(random),
            sort: Sort::NewestEnd,
            ..ListFilter::default()
        }),
        ("three_workflows_canceled", |random, _| ListFilter {
            workflows: (0..3).flat_map(|_| workflow(random)).collect(),
            status: vec![Status::Canceled],
            ..ListFilter::default()
        }),
        ("completed", |_, _| ListFilter { status: vec![Status::Completed], ..ListFilter::default() }),
        ("running", |_, _| ListFilter { status: vec![Status::Running], ..ListFilter::default() }),
        ("running_of_user_by_end", |random, _| ListFilter {
            status: vec![Status::Running],
            sort: Sort::OldestEnd,
            ..owner(random, true)
        }),
        ("failed_oldest", |_, _| ListFilter {
            status: vec![Status::Failed],
            sort: Sort::OldestStart,
            ..ListFilter::default()
        }),
        ("bad_ends_of_user", |random, _| ListFilter {
            status: vec![Status::Terminated, Status::TimedOut],
            ..owner(random, true)
        }),
        ("started_within_an_hour", hour),
        ("user_started_within_an_hour", |random, rows| {
            let hour = hour(random, rows);
            ListFilter {
                started_from: hour.started_from,
                started_before: hour.started_before,
                ..owner(random, true)
            }
        }),
        ("workspace_ended_within_a_minute", |random, rows| {
            let from = time(random.random_range(0..rows));
            ListFilter { ended_from: Some(from), ended_before: Some(from + 60_000), ..owner(random, false) }
        }),
        ("started_in_an_hour_by_end", |random, rows| ListFilter {
            sort: Sort::NewestEnd,
            ..hour(random, rows)
        }),
        ("text_one_id", |random, rows| ListFilter {
            text: Some(format!("order-{:08}", random.random_range(0..rows / 4) * 4)),
            ..owner(random, false)
        }),
        ("text_many_ids", |random, _| ListFilter { text: Some("order-".into()), ..owner(random, true) }),
        ("text_some_ids", |random, rows| ListFilter {
            text: Some(format!("order-{:03}", random.random_range(0..rows) / 100_000)),
            ..owner(random, true)
        }),
        ("text_in_workflow", |random, _| ListFilter {
            text: Some(format!("low-{:02}", random.random_range(0..WORKFLOWS))),
            ..owner(random, true)
        }),
        ("text_of_nothing", |_, _| ListFilter { text: Some("nothing".into()), ..ListFilter::default() }),
        ("search_exactly_rare", |random, _| ListFilter {
            search_keys: vec![customer(random, SearchMatch::Exactly)],
            ..owner(random, false)
        }),
        ("search_exactly_common", |random, _| ListFilter {
            search_keys: vec![term("region", SearchMatch::Exactly("North".into()))],
            ..owner(random, true)
        }),
        ("search_present", |random, _| ListFilter {
            search_keys: vec![term("region", SearchMatch::Present)],
            ..owner(random, true)
        }),
        ("search_similar_rare", |random, _| ListFilter {
            search_keys: vec![customer(random, SearchMatch::Similar)],
            ..owner(random, false)
        }),
        ("search_similar_common", |random, _| ListFilter {
            search_keys: vec![term("customer", SearchMatch::Similar("CUSTOMER 1".into()))],
            ..owner(random, true)
        }),
        ("search_both", |random, _| ListFilter {
            search_keys: vec![
                customer(random, SearchMatch::Similar),
                term("region", SearchMatch::Exactly("South".into())),
            ],
            ..owner(random, false)
        }),
        ("search_of_nothing", |random, _| ListFilter {
            search_keys: vec![term("customer", SearchMatch::Exactly("nobody".into()))],
            ..owner(random, true)
        }),
        ("root", |random, rows| ListFilter { root: Some(top(random, rows)), ..owner(random, false) }),
        ("parent", |random, rows| ListFilter { parent: Some(top(random, rows)), ..ListFilter::default() }),
        ("schedule", |random, _| ListFilter {
            schedule: Some(format!("schedule-{}", random.random_range(0..40))),
            ..ListFilter::default()
        }),
        ("schedule_failed_by_end", |random, _| ListFilter {
            schedule: Some(format!("schedule-{}", random.random_range(0..40))),
            status: vec![Status::Failed],
            sort: Sort::NewestEnd,
            ..ListFilter::default()
        }),
        ("oldest_end_current", |random, _| ListFilter {
            sort: Sort::OldestEnd,
            current: true,
            ..owner(random, false)
        }),
    ];
    for (name, make) in filters {
        let mut times = Vec::new();
        for _ in 0..ASKED {
            let mut filter = ListFilter { limit: PAGE, ..make(random, rows) };
            // Every third one asks for the page after.
            if random.random_ratio(1, 3) {
                let page = store.list(&filter).expect("lists");
                filter.after = page.last().map(|row| row.key);
            }
            times.push(timed(|| {
                std::hint::black_box(store.list(&filter).expect("lists"));
            }));
        }
        report(name, &mut times);
    }
    // Somewhere deep in the list.
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let after = ExecutionKey(random.random_range(1..rows as i64));
        let filter = ListFilter { after: Some(after), limit: PAGE, ..owner(random, true) };
        times.push(timed(|| {
            std::hint::black_box(store.list(&filter).expect("lists"));
        }));
    }
    report("user_deep_page", &mut times);
}

fn owner(random: &mut StdRng, user: bool) -> ListFilter {
    let number = random.random_range(0..USERS);
    ListFilter {
        workspace: Some(WorkspaceId::new(format!("workspace-{}", number % WORKSPACES))),
        user: user.then(|| UserId::new(format!("user-{number:02}"))),
        ..ListFilter::default()
    }
}

fn workflow(random: &mut StdRng) -> Vec<String> {
    vec![format!("workflow-{:02}", random.random_range(0..WORKFLOWS))]
}

fn hour(random: &mut StdRng, rows: u64) -> ListFilter {
    let from = time(random.random_range(0..rows));
    ListFilter { started_from: Some(from), started_before: Some(from + 3_600_000), ..ListFilter::default() }
}

fn top(random: &mut StdRng, rows: u64) -> ExecutionId {
    format!("top-{}", random.random_range(0..rows / 1_000 + 1)).parse().expect("valid")
}

fn term(name: &str, value: SearchMatch) -> SearchTerm {
    SearchTerm { name: name.into(), value }
}

fn customer(random: &mut StdRng, value: fn(String) -> SearchMatch) -> SearchTerm {
    term("customer", value(format!("Customer {}", random.random_range(0..20_000))))
}

fn purge(store: &Arc<SqliteStore>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let mut appends = Vec::new();
    let began = Instant::now();
    let purging = runtime.spawn({
        let store = Arc::clone(store);
        async move { store.purge(time(20_000), 20_000).await }
    });
    let mut random = StdRng::seed_from_u64(9);
    while !purging.is_finished() {
        let mut append = with_key(run(&mut random, store, 1, true));
        if let Some(start) = &mut append.start {
            start.row.id = ExecutionId::generate();
        }
        appends.push(timed(|| block_on(store.append(append)).map(|_| ()).expect("appends")));
    }
    let removed = runtime.block_on(purging).expect("runs").expect("purges");
    println!("\npurged {removed} runs in {:.1} s; starts meanwhile:", began.elapsed().as_secs_f64());
    report("start_beside_a_purge", &mut appends);
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn report(name: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
    let ms = |share| at(share).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    println!("{name:<34} {:>9.3} {:>9.3}", ms(50), ms(99));
    println!("figure {name} {:.3} {:.3}", ms(50), ms(99));
}
