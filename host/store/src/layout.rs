//! The tables, and what each index is for.
//!
//! Every index is a page that a start or an end has to write, so each has to earn its place. The indexes for lists hold
//! runs that have ended and are written once, at the end; open runs are few and have an index of their own. They are in
//! the order of starts within what they are about and hold every column that lists filter by, so that a run which does
//! not match costs no look at its row. Indexes for what most runs do not have (parent, root, schedule, a bad end) are
//! partial: a plain run pays nothing for them.

/// Version of the layout below and of the records in it (`airlock_engine::history`).
pub(crate) const LAYOUT: i64 = 3;

/// `status` is a position in `Status::ALL`. `wake_at` is 0 for "has work", a Unix time in milliseconds, or NULL for
/// "not by itself". `root` is NULL for a run that is its own root. The journal is in the order of commits, so that a
/// commit of many executions writes few pages; `event` numbers every event of the store, a row takes up `events` of
/// them. Texts that many runs share stand once in `names`. `purged` are runs whose journal is still to be removed,
/// `doomed` objects that nothing refers to any more. `marks` are numbers that must not be given again although what
/// had them was purged.
pub(crate) const TABLES: &str = "
    CREATE TABLE names (
        number INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        UNIQUE (kind, name)
    ) STRICT;
    CREATE TABLE executions (
        key INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        current INTEGER NOT NULL,
        run_id BLOB NOT NULL,
        workflow INTEGER NOT NULL,
        user INTEGER NOT NULL,
        workspace INTEGER NOT NULL,
        organization INTEGER NOT NULL,
        digest BLOB NOT NULL,
        status INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        ended_at INTEGER,
        wake_at INTEGER,
        parent TEXT,
        parent_run INTEGER,
        parent_seq INTEGER,
        parent_close INTEGER,
        root TEXT,
        schedule TEXT
    ) STRICT;
    CREATE UNIQUE INDEX executions_current ON executions (id) WHERE current = 1;
    CREATE INDEX executions_former ON executions (id) WHERE current = 0;
    CREATE INDEX executions_run ON executions (run_id);
    CREATE INDEX executions_open ON executions (started_at, key) WHERE status = 0;
    CREATE INDEX ended_by_start
        ON executions (started_at, key, workspace, user, workflow, status, ended_at, current) WHERE status <> 0;
    CREATE INDEX ended_by_end
        ON executions (ended_at, key, workspace, user, workflow, status, started_at, current) WHERE status <> 0;
    CREATE INDEX ended_by_owner
        ON executions (workspace, user, started_at, key, workflow, status, ended_at, current) WHERE status <> 0;
    CREATE INDEX ended_by_workflow
        ON executions (workflow, started_at, key, workspace, user, status, ended_at, current) WHERE status <> 0;
    CREATE INDEX ended_badly
        ON executions (status, started_at, key, workspace, user, workflow, ended_at, current) WHERE status > 1;
    CREATE INDEX executions_parent
        ON executions (parent, started_at, key, workspace, user, workflow, status, ended_at, current)
        WHERE parent IS NOT NULL;
    CREATE INDEX executions_root
        ON executions (root, started_at, key, workspace, user, workflow, status, ended_at, current)
        WHERE root IS NOT NULL;
    CREATE INDEX executions_schedule
        ON executions (schedule, started_at, key, workspace, user, workflow, status, ended_at, current)
        WHERE schedule IS NOT NULL;
    CREATE TABLE search_keys (
        execution INTEGER NOT NULL,
        name TEXT NOT NULL,
        value TEXT,
        PRIMARY KEY (execution, name)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX search_values ON search_keys (name, value, execution);
    CREATE TABLE journal (
        event INTEGER PRIMARY KEY,
        execution INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        events INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX journal_execution ON journal (execution, idx);
    CREATE TABLE objects (
        execution INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        path TEXT NOT NULL,
        length INTEGER NOT NULL,
        sha256 BLOB NOT NULL,
        PRIMARY KEY (execution, idx)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE doomed (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE purged (key INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE records (
        name TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (name, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE seal_check (body BLOB NOT NULL) STRICT;
    CREATE TABLE object_store (location TEXT NOT NULL) STRICT;
";
