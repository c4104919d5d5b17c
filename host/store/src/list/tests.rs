use airlock_engine::{
    Digest, ExecutionId, ExecutionKey, OrganizationId, Principal, RunId, UserId, WorkspaceId,
    history::{Parent, ParentClose, SearchValue},
    store::{Append, SearchMatch, SearchTerm, Sort, Start, Status},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::{layout::TABLES, names::Names, seal::Seal, step::Step, write};

struct Run {
    row: ExecutionRow,
    current: bool,
    search_keys: Vec<(String, Option<String>)>,
}

/// A database with runs of all sorts, and the same runs in memory.
fn database(random: &mut StdRng, count: i64) -> (Connection, Vec<Run>) {
    let connection = Connection::open_in_memory().expect("opens");
    connection.execute_batch(TABLES).expect("lays out");
    functions(&connection).expect("adds the functions");
    let (mut names, seal) = (Names::default(), Seal::new(&[1; 32]));
    let mut runs: Vec<Run> = Vec::new();
    for key in 1..=count {
        let former = (random.random_ratio(1, 8) && !runs.is_empty())
            .then(|| random.random_range(0..runs.len()))
            .filter(|former| runs[*former].current && runs[*former].row.ended_at.is_some());
        let id: ExecutionId = match former {
            Some(former) => runs[former].row.id.clone(),
            None => {
                format!("{}-{key}", ["order", "invoice"].choose(random).expect("one")).parse().expect("valid")
            }
        };
        let mut above = |ratio| random.random_ratio(1, ratio).then(|| runs.choose(random)).flatten();
        let parent = above(6).filter(|above| above.row.id != id);
        let status = match random.random_range(0..10) {
            0 => Status::Running,
            1..=6 => Status::Completed,
            other => Status::ALL[other as usize - 5],
        };
        let started_at = key as u64 / 3 + random.random_range(0..4);
        let ended_at = (status != Status::Running).then(|| started_at + random.random_range(0..50));
        let row = ExecutionRow {
            key: ExecutionKey(key),
            run_id: RunId::generate(),
            workflow: format!("w{}", random.random_range(0..4)),
            digest: Digest([1; 32]),
            principal: Principal {
                user: UserId::new(format!("u{}", random.random_range(0..5))),
                workspace: WorkspaceId::new(format!("s{}", random.random_range(0..2))),
                organization: OrganizationId::new("o"),
            },
            status,
            started_at,
            ended_at,
            root: parent.map_or_else(|| id.clone(), |parent| parent.row.root.clone()),
            parent: parent.map(|parent| Parent {
                id: parent.row.id.clone(),
                run: parent.row.key,
                seq: 1,
                close: ParentClose::Abandon,
            }),
            schedule: random.random_ratio(1, 6).then(|| "nightly".into()),
            id,
        };
        let mut search_keys: Vec<(String, Option<String>)> = Vec::new();
        for name in ["city", "order"] {
            if random.random_ratio(1, 4) {
                let value = *[None, Some("Paris"), Some("lyon")].choose(random).expect("one");
                search_keys.push((name.into(), value.map(Into::into)));
            }
        }
        let start = Start { row: row.clone(), replaces: former.map(|former| runs[former].row.key) };
        let append = Append {
            start: Some(Box::new(start)),
            end: ended_at.map(|at| (status, at)),
            search_keys: search_keys
                .iter()
                .map(|(name, value)| {
                    (name.clone(), value.clone().map_or(SearchValue::Null, SearchValue::Text))
                })
                .collect(),
            ..Append::records(row.key, 0, 1, vec![])
        };
        write::step(&connection, &mut names, &Step::prepare(append, &seal), &mut 1).expect("writes");
        if let Some(former) = former {
            runs[former].current = false;
        }
        runs.push(Run { row, current: true, search_keys });
    }
    (connection, runs)
}

/// The list by the words of the contract.
fn expected(runs: &[Run], filter: &ListFilter) -> Vec<ExecutionKey> {
    let any = |wanted: bool, matches: bool| !wanted || matches;
    let matches = |run: &&Run| {
        let row = &run.row;
        filter.workspace.as_ref().is_none_or(|it| *it == row.principal.workspace)
            && filter.user.as_ref().is_none_or(|it| *it == row.principal.user)
            && any(!filter.workflows.is_empty(), filter.workflows.contains(&row.workflow))
            && any(!filter.status.is_empty(), filter.status.contains(&row.status))
            && filter.id.as_ref().is_none_or(|it| *it == row.id)
            && filter.root.as_ref().is_none_or(|it| *it == row.root)
            && filter
                .parent
                .as_ref()
                .is_none_or(|it| row.parent.as_ref().is_some_and(|parent| parent.id == *it))
            && filter.schedule.as_ref().is_none_or(|it| row.schedule.as_ref() == Some(it))
            && filter.started_from.is_none_or(|at| row.started_at >= at)
            && filter.started_before.is_none_or(|at| row.started_at < at)
            && filter.ended_from.is_none_or(|at| row.ended_at.is_some_and(|ended| ended >= at))
            && filter.ended_before.is_none_or(|at| row.ended_at.is_some_and(|ended| ended < at))
            && filter
                .text
                .as_ref()
                .is_none_or(|it| row.id.as_str().starts_with(it) || row.workflow.contains(it))
            && any(filter.current, run.current)
            && filter.search_keys.iter().all(|term| {
                run.search_keys.iter().any(|(name, value)| {
                    *name == term.name
                        && match (&term.value, value) {
                            (SearchMatch::Present, _) | (SearchMatch::Null, None) => true,
                            (SearchMatch::Exactly(wanted), Some(value)) => wanted == value,
                            (SearchMatch::Similar(wanted), Some(value)) => {
                                value.to_lowercase().contains(&wanted.to_lowercase())
                            }
                            _ => false,
                        }
                })
            })
    };
    let mut found: Vec<&ExecutionRow> = runs.iter().filter(matches).map(|run| &run.row).collect();
    let open = |row: &ExecutionRow| if row.ended_at.is_none() { row.started_at } else { 0 };
    match filter.sort {
        Sort::NewestStart | Sort::OldestStart => found.sort_by_key(|row| (row.started_at, row.key)),
        _ => found.sort_by_key(|row| (row.ended_at.unwrap_or(u64::MAX), open(row), row.key)),
    }
    if matches!(filter.sort, Sort::NewestStart | Sort::NewestEnd) {
        found.reverse();
    }
    found.into_iter().map(|row| row.key).collect()
}

fn filter(random: &mut StdRng, runs: &[Run]) -> ListFilter {
    let run = runs.choose(random).expect("one");
    let row = &run.row;
    let mut maybe = |ratio| random.random_ratio(1, ratio);
    let mut filter = ListFilter {
        workspace: maybe(2).then(|| row.principal.workspace.clone()),
        user: maybe(3).then(|| row.principal.user.clone()),
        workflows: if maybe(3) { vec![row.workflow.clone()] } else { vec![] },
        status: if maybe(3) { vec![row.status] } else { vec![] },
        id: maybe(30).then(|| row.id.clone()),
        root: maybe(20).then(|| row.root.clone()),
        parent: row.parent.as_ref().filter(|_| maybe(10)).map(|parent| parent.id.clone()),
        schedule: row.schedule.clone().filter(|_| maybe(3)),
        started_from: maybe(6).then(|| row.started_at - row.started_at.min(30)),
        started_before: maybe(6).then(|| row.started_at + 30),
        ended_from: row.ended_at.filter(|_| maybe(6)).map(|at| at - at.min(20)),
        ended_before: row.ended_at.filter(|_| maybe(6)).map(|at| at + 20),
        text: maybe(8).then(|| row.id.as_str()[..7].to_owned()),
        current: maybe(4),
        ..ListFilter::default()
    };
    if maybe(8) {
        filter.workflows.push("w1".into());
    }
    if maybe(8) {
        filter.status.extend([Status::Failed, Status::TimedOut]);
    }
    if maybe(12) {
        filter.text = Some("w2".into());
    }
    if maybe(5)
        && let Some((name, value)) = run.search_keys.first()
    {
        let value = match value {
            _ if maybe(3) => SearchMatch::Present,
            None => SearchMatch::Null,
            Some(value) if maybe(2) => SearchMatch::Exactly(value.clone()),
            Some(value) => SearchMatch::Similar(value[1..].to_uppercase()),
        };
        filter.search_keys.push(SearchTerm { name: name.clone(), value });
    }
    filter.sort = *[Sort::NewestStart, Sort::OldestStart, Sort::NewestEnd, Sort::OldestEnd]
        .choose(random)
        .expect("one");
    filter
}

#[test]
fn every_way_to_find_runs_finds_what_the_filter_says() {
    let mut random = StdRng::seed_from_u64(4711);
    let (connection, runs) = database(&mut random, 600);
    // Ways that are taken early, late, and by chance.
    let efforts = [
        Effort { walks: [2, 8], few: 5, ids: 500, many: 1_000 },
        Effort { walks: [20, 100], few: 30, ids: 40, many: 50 },
        Effort::DEFAULT,
    ];
    let mut found = 0;
    for _ in 0..3_000 {
        let mut filter = filter(&mut random, &runs);
        let expected = expected(&runs, &filter);
        filter.limit = random.random_range(1..20);
        let mut rest = &expected[..];
        if random.random_ratio(1, 2) && !expected.is_empty() {
            let last = random.random_range(0..expected.len());
            filter.after = Some(expected[last]);
            rest = &expected[last + 1..];
        }
        let page = &rest[..rest.len().min(filter.limit)];
        for effort in &efforts {
            let rows =
                try_list(&connection, &filter, effort).unwrap_or_else(|error| panic!("{error}: {filter:?}"));
            let keys: Vec<_> = rows.iter().map(|row| row.key).collect();
            assert_eq!(keys, page, "{filter:?}");
        }
        found += page.len();
    }
    assert!(found > 5_000, "most filters find something: {found}");
}

#[test]
fn a_list_in_the_order_of_an_index_is_neither_sorted_nor_searched_in_the_table() {
    let mut random = StdRng::seed_from_u64(1);
    let (connection, runs) = database(&mut random, 50);
    let row = &runs[0].row;
    for sort in [Sort::NewestStart, Sort::OldestStart, Sort::NewestEnd, Sort::OldestEnd] {
        let all = ListFilter { sort, limit: 5, current: true, after: Some(row.key), ..ListFilter::default() };
        let workspace = ListFilter { workspace: Some(row.principal.workspace.clone()), ..all.clone() };
        let user = ListFilter { user: Some(row.principal.user.clone()), ..workspace.clone() };
        let workflow = ListFilter { workflows: vec![row.workflow.clone()], ..all.clone() };
        let status = ListFilter { status: vec![Status::Completed], started_from: Some(1), ..user.clone() };
        for filter in [all, workspace, user, workflow, status] {
            let conditions = Conditions::new(&connection, &filter).expect("reads").expect("can match");
            let order = Order::new(&connection, sort, filter.after).expect("reads").expect("has more");
            let query = Query {
                connection: &connection,
                filter: &filter,
                effort: &Effort::DEFAULT,
                conditions,
                order,
            };
            let Some(sql) = query.statement(&query.walk(), Rows::Ended, &Sql::default()) else { continue };
            let plan = sql.plan(&connection);
            assert!(plan.iter().any(|line| line.contains("USING COVERING INDEX ended_")), "{plan:#?}");
            assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{plan:#?}");
        }
    }
}
