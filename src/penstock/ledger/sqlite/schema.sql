-- The embedded ledger, version 1.
--
--   lines 1--* shares 1--* runs 1--* attempts *--1 workers
--                            |--1 bodies   |--0..1 results   |--0..1 checkpoints
--
-- A line is one lane of one app; a share is one tenant's part of it. Their counters change in the transaction that
-- moves the runs, so a length or a position is never a scan. Bytes lie in tables of their own: a run is rewritten at
-- each of its steps, what it carries never. Times are seconds since 1970. Every index that serves waiting or live work
-- is partial, so finished runs weigh nothing on it.

CREATE TABLE notes (
    name  TEXT PRIMARY KEY,
    value REAL NOT NULL
) WITHOUT ROWID;

-- ------------------------------------------------------------ lines

CREATE TABLE lines (
    id               INTEGER PRIMARY KEY,
    app              TEXT    NOT NULL,
    lane             TEXT    NOT NULL,
    leased_total     INTEGER NOT NULL DEFAULT 0,
    settled_total    INTEGER NOT NULL DEFAULT 0,
    service_seconds  REAL    NOT NULL DEFAULT 0,
    expected_seconds REAL    NOT NULL DEFAULT 0,  -- of the next attempt: a moving average
    UNIQUE (app, lane)
);

CREATE TABLE shares (
    id      INTEGER PRIMARY KEY,
    line    INTEGER NOT NULL REFERENCES lines (id),
    tenant  TEXT    NOT NULL,
    weight  REAL    NOT NULL DEFAULT 1,
    queued  INTEGER NOT NULL DEFAULT 0,
    in_line INTEGER NOT NULL DEFAULT 0,           -- of the queued, those that don't wait out a back-off
    running INTEGER NOT NULL DEFAULT 0,
    vtime   REAL    NOT NULL DEFAULT 0,           -- service taken so far, over the weight: the least goes first
    UNIQUE (line, tenant)
);

-- ------------------------------------------------------------ runs

CREATE TABLE runs (
    seq             INTEGER PRIMARY KEY,
    run_id          TEXT    NOT NULL,
    share           INTEGER NOT NULL REFERENCES shares (id),
    state           TEXT    NOT NULL,
    in_line         INTEGER NOT NULL,             -- 1: QUEUED and no back-off
    head            INTEGER NOT NULL DEFAULT 0,
    priority        INTEGER NOT NULL,
    alone           INTEGER NOT NULL DEFAULT 0,
    epoch           INTEGER NOT NULL DEFAULT 0,
    failures        INTEGER NOT NULL DEFAULT 0,
    deaths          INTEGER NOT NULL DEFAULT 0,
    queued_at       REAL    NOT NULL,
    not_before      REAL    NOT NULL DEFAULT 0,
    expires_at      REAL    NOT NULL,
    queue_left      REAL    NOT NULL DEFAULT 0,   -- seconds of its queue TTL that were left when it was leased
    started_at      REAL,
    finished_at     REAL,
    purged_at       REAL,
    keep_until      REAL,                         -- when its result, and then its tombstone, goes
    reason          TEXT,
    message         TEXT    NOT NULL DEFAULT '',
    progress        REAL,
    progress_note   TEXT    NOT NULL DEFAULT '',
    tenant          TEXT    NOT NULL,
    app             TEXT    NOT NULL,
    lane            TEXT    NOT NULL,
    key             TEXT    NOT NULL,
    generation      INTEGER NOT NULL,
    spec_generation INTEGER NOT NULL,
    terms           TEXT    NOT NULL,             -- a JSON array: the numbers of model.run.Terms
    mark            INTEGER NOT NULL,
    sha256          TEXT    NOT NULL,
    tag             TEXT,
    parent          TEXT,
    webhook         TEXT,
    traceparent     TEXT,
    created_at      REAL    NOT NULL
);

CREATE UNIQUE INDEX runs_by_id      ON runs (run_id);
CREATE UNIQUE INDEX runs_by_key     ON runs (key, tenant, app, generation);
CREATE INDEX runs_in_line           ON runs (share, head DESC, priority DESC, seq) WHERE in_line = 1;
CREATE INDEX runs_queued            ON runs (share, queued_at)  WHERE state = 'QUEUED';
CREATE INDEX runs_expiring          ON runs (expires_at)        WHERE state = 'QUEUED';
CREATE INDEX runs_backing_off       ON runs (not_before)        WHERE state = 'QUEUED' AND in_line = 0;
CREATE INDEX runs_kept              ON runs (keep_until)        WHERE keep_until IS NOT NULL;
CREATE INDEX runs_listed            ON runs (tenant, app, seq);
CREATE INDEX runs_ended             ON runs (tenant, app, state, seq)
    WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELLED');
CREATE INDEX runs_tagged            ON runs (tag, seq)          WHERE tag IS NOT NULL;
CREATE INDEX runs_of_parent         ON runs (parent, seq)       WHERE parent IS NOT NULL;

CREATE TABLE bodies (
    seq          INTEGER PRIMARY KEY,
    object       TEXT,                            -- a key of the store, where the bytes are not here
    size         INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    encoding     TEXT    NOT NULL,
    bytes        BLOB
);

CREATE TABLE results (
    seq          INTEGER PRIMARY KEY,
    object       TEXT,
    size         INTEGER NOT NULL,
    content_type TEXT    NOT NULL,
    encoding     TEXT    NOT NULL,
    bytes        BLOB
);

CREATE TABLE checkpoints (
    seq   INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
);

-- ------------------------------------------------------------ attempts and workers

CREATE TABLE attempts (
    seq         INTEGER NOT NULL,                 -- of its run
    epoch       INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    live        INTEGER NOT NULL,                 -- 1: its worker is still at it, even where its run was cancelled
    reported    INTEGER NOT NULL DEFAULT 0,       -- 1: it was settled by its worker
    worker_uid  TEXT    NOT NULL,
    replica     INTEGER NOT NULL,
    alone       INTEGER NOT NULL,
    leased_at   REAL    NOT NULL,
    lease_until REAL    NOT NULL,
    deadline_at REAL    NOT NULL,
    due_at      REAL    NOT NULL,                 -- the nearest moment at which a sweep may end it
    charged     REAL    NOT NULL,                 -- seconds that its tenant was charged in advance
    first_byte_at REAL,
    finished_at REAL,
    exit_code   INTEGER,
    reason      TEXT,
    message     TEXT    NOT NULL DEFAULT '',
    node        TEXT,
    candidate   TEXT,
    gpu_ids     TEXT    NOT NULL DEFAULT '[]',
    PRIMARY KEY (seq, epoch)
) WITHOUT ROWID;

CREATE INDEX attempts_of_worker ON attempts (worker_uid, replica) WHERE live = 1;
CREATE INDEX attempts_due       ON attempts (due_at)              WHERE live = 1;
CREATE INDEX attempts_unheard   ON attempts (finished_at)         WHERE live = 1 AND finished_at IS NOT NULL;

CREATE TABLE workers (
    id              INTEGER PRIMARY KEY,
    uid             TEXT    NOT NULL UNIQUE,
    app             TEXT    NOT NULL,
    spec_generation INTEGER NOT NULL,
    state           TEXT    NOT NULL,             -- BUSY is IDLE that holds a live attempt, and is never stored
    candidate       TEXT,
    node            TEXT,
    gpu_ids         TEXT    NOT NULL DEFAULT '[]',
    pid             INTEGER,
    instances       INTEGER NOT NULL,
    started_at      REAL    NOT NULL,
    ready_at        REAL,
    seen_at         REAL,
    ended_at        REAL,
    exit_code       INTEGER,
    reason          TEXT    NOT NULL DEFAULT '',
    message         TEXT    NOT NULL DEFAULT '',
    leases          INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX workers_live  ON workers (app, id)   WHERE ended_at IS NULL;
CREATE INDEX workers_of    ON workers (app, id);
CREATE INDEX workers_ended ON workers (ended_at)  WHERE ended_at IS NOT NULL;

-- ------------------------------------------------------------ the book beside the runs

CREATE TABLE decisions (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    app    TEXT NOT NULL,
    record TEXT NOT NULL                          -- JSON of model.placement.Decision
);
CREATE INDEX decisions_of ON decisions (app, id);

CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    app        TEXT NOT NULL,
    at         REAL NOT NULL,
    kind       TEXT NOT NULL,
    message    TEXT NOT NULL,
    worker_uid TEXT
);
CREATE INDEX events_of ON events (app, id);

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    at         REAL NOT NULL,
    tenant     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    action     TEXT NOT NULL,
    object     TEXT NOT NULL,
    result     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    request_id TEXT NOT NULL,
    previous   TEXT NOT NULL,
    hash       TEXT NOT NULL
);
CREATE INDEX audit_of ON audit (tenant, id);

CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;

CREATE TRIGGER audit_never_forgets BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;

CREATE TABLE leads (
    name   TEXT PRIMARY KEY,
    holder TEXT    NOT NULL,
    term   INTEGER NOT NULL,
    until  REAL    NOT NULL
) WITHOUT ROWID;

CREATE TABLE pins (
    scope        TEXT NOT NULL,
    key          TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    taken_at     REAL NOT NULL,
    run_id       TEXT,                            -- the run that it stands for, or else
    status       INTEGER,                         -- the answer that it stands for; neither yet: another is at it
    body         BLOB,
    content_type TEXT,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX pins_taken ON pins (taken_at);
