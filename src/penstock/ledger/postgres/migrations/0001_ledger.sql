-- The ledger, version 1.
--
--   lines 1--* shares 1--* runs 1--* attempts *--1 workers
--                            |--1 bodies   |--0..1 results   |--0..1 checkpoints
--
-- A line is one lane of one app; a share is one tenant's part of it. Their counters change in the transaction that
-- moves the runs, by differences, so a length or a position is never a scan and no process overwrites another's count.
-- Bytes lie in tables of their own: a run is rewritten at each of its steps, what it carries never. Times are seconds
-- since 1970 by this server's clock. Every index that serves waiting or live work is partial, so finished runs weigh
-- nothing on it. Names compare byte by byte, whatever the database's language. There are no foreign keys: each would
-- lock the share's one hot row for every run that is written.

CREATE TABLE notes (
    name  text COLLATE "C" PRIMARY KEY,
    value double precision NOT NULL
);

-- ------------------------------------------------------------ lines

CREATE TABLE lines (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app              text COLLATE "C" NOT NULL,
    lane             text COLLATE "C" NOT NULL,
    leased_total     bigint           NOT NULL DEFAULT 0,
    settled_total    bigint           NOT NULL DEFAULT 0,
    service_seconds  double precision NOT NULL DEFAULT 0,
    expected_seconds double precision NOT NULL DEFAULT 0,  -- of the next attempt: a moving average
    floor            double precision NOT NULL DEFAULT 0,  -- the virtual time that its service has come to
    UNIQUE (app, lane)
) WITH (fillfactor = 20);                                  -- rewritten in place, over and over

CREATE TABLE shares (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    line    bigint           NOT NULL,
    tenant  text COLLATE "C" NOT NULL,
    weight  double precision NOT NULL DEFAULT 1,
    queued  bigint           NOT NULL DEFAULT 0,
    in_line bigint           NOT NULL DEFAULT 0,           -- of the queued, those that don't wait out a back-off
    running bigint           NOT NULL DEFAULT 0,
    vtime   double precision NOT NULL DEFAULT 0,           -- service taken so far, over the weight: the least goes first
    UNIQUE (line, tenant)
) WITH (fillfactor = 20);

-- ------------------------------------------------------------ runs

CREATE SEQUENCE run_order;

CREATE TABLE runs (
    seq             bigint PRIMARY KEY,
    run_id          text COLLATE "C" NOT NULL,
    share           bigint           NOT NULL,
    state           text             NOT NULL,
    in_line         boolean          NOT NULL,             -- QUEUED and no back-off
    head            boolean          NOT NULL DEFAULT false,
    priority        integer          NOT NULL,
    alone           boolean          NOT NULL DEFAULT false,
    epoch           integer          NOT NULL DEFAULT 0,
    failures        integer          NOT NULL DEFAULT 0,
    deaths          integer          NOT NULL DEFAULT 0,
    queued_at       double precision NOT NULL,
    not_before      double precision NOT NULL DEFAULT 0,
    expires_at      double precision NOT NULL,
    queue_left      double precision NOT NULL DEFAULT 0,   -- seconds of its queue TTL that were left when it was leased
    started_at      double precision,
    finished_at     double precision,
    purged_at       double precision,
    keep_until      double precision,                      -- when its result, and then its tombstone, goes
    reason          text,
    message         text             NOT NULL DEFAULT '',
    progress        double precision,
    progress_note   text             NOT NULL DEFAULT '',
    tenant          text COLLATE "C" NOT NULL,
    app             text COLLATE "C" NOT NULL,
    lane            text COLLATE "C" NOT NULL,
    key             text COLLATE "C" NOT NULL,
    generation      integer          NOT NULL,
    spec_generation integer          NOT NULL,
    terms           text             NOT NULL,             -- a JSON array: the numbers of model.run.Terms
    mark            bigint           NOT NULL,
    sha256          text             NOT NULL,
    tag             text COLLATE "C",
    parent          text COLLATE "C",
    webhook         text,
    traceparent     text,
    created_at      double precision NOT NULL
);

-- A generation of a key begins only where the one before is terminal, so one of each is one live run per key.
CREATE UNIQUE INDEX runs_by_key     ON runs (key, tenant, app, generation);
CREATE UNIQUE INDEX runs_by_id      ON runs (run_id);
CREATE INDEX runs_in_line           ON runs (share, head DESC, priority DESC, seq) WHERE in_line;
CREATE INDEX runs_queued            ON runs (share, queued_at)  WHERE state = 'QUEUED';
CREATE INDEX runs_expiring          ON runs (expires_at)        WHERE state = 'QUEUED';
CREATE INDEX runs_backing_off       ON runs (not_before)        WHERE state = 'QUEUED' AND NOT in_line;
CREATE INDEX runs_kept              ON runs (keep_until)        WHERE keep_until IS NOT NULL;
CREATE INDEX runs_listed            ON runs (tenant, app, seq);
CREATE INDEX runs_ended             ON runs (tenant, app, state, seq)
    WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELLED');
CREATE INDEX runs_tagged            ON runs (tag, seq)          WHERE tag IS NOT NULL;
CREATE INDEX runs_of_parent         ON runs (parent, seq)       WHERE parent IS NOT NULL;

CREATE TABLE bodies (
    seq          bigint PRIMARY KEY,
    object       text,                                     -- a key of the store, where the bytes are not here
    size         bigint NOT NULL,
    content_type text   NOT NULL,
    encoding     text   NOT NULL,
    bytes        bytea
);

CREATE TABLE results (
    seq          bigint PRIMARY KEY,
    object       text,
    size         bigint NOT NULL,
    content_type text   NOT NULL,
    encoding     text   NOT NULL,
    bytes        bytea
);

CREATE TABLE checkpoints (
    seq   bigint PRIMARY KEY,
    bytes bytea NOT NULL
);

-- ------------------------------------------------------------ attempts and workers

CREATE TABLE attempts (
    seq           bigint           NOT NULL,               -- of its run
    epoch         integer          NOT NULL,
    state         text             NOT NULL,
    live          boolean          NOT NULL,               -- its worker is still at it, even where its run was cancelled
    reported      boolean          NOT NULL DEFAULT false, -- it was settled by its worker
    worker_uid    text COLLATE "C" NOT NULL,
    replica       integer          NOT NULL,
    alone         boolean          NOT NULL,
    leased_at     double precision NOT NULL,
    lease_until   double precision NOT NULL,
    deadline_at   double precision NOT NULL,
    due_at        double precision NOT NULL,               -- the nearest moment at which a sweep may end it
    charged       double precision NOT NULL,               -- seconds that its tenant was charged in advance
    first_byte_at double precision,
    finished_at   double precision,
    exit_code     integer,
    reason        text,
    message       text             NOT NULL DEFAULT '',
    node          text,
    candidate     text,
    gpu_ids       text             NOT NULL DEFAULT '[]',
    PRIMARY KEY (seq, epoch)
);

CREATE INDEX attempts_of_worker ON attempts (worker_uid, replica) WHERE live;
CREATE INDEX attempts_due       ON attempts (due_at)              WHERE live;
CREATE INDEX attempts_unheard   ON attempts (finished_at)         WHERE live AND finished_at IS NOT NULL;

CREATE TABLE workers (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid             text COLLATE "C" NOT NULL UNIQUE,
    app             text COLLATE "C" NOT NULL,
    spec_generation integer          NOT NULL,
    state           text             NOT NULL,             -- BUSY is IDLE that holds a live attempt, and is never stored
    candidate       text,
    node            text,
    gpu_ids         text             NOT NULL DEFAULT '[]',
    pid             integer,
    instances       integer          NOT NULL,
    started_at      double precision NOT NULL,
    ready_at        double precision,
    seen_at         double precision,
    ended_at        double precision,
    exit_code       integer,
    reason          text             NOT NULL DEFAULT '',
    message         text             NOT NULL DEFAULT '',
    leases          bigint           NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

CREATE INDEX workers_live  ON workers (app, id)   WHERE ended_at IS NULL;
CREATE INDEX workers_of    ON workers (app, id);
CREATE INDEX workers_ended ON workers (ended_at)  WHERE ended_at IS NOT NULL;

-- ------------------------------------------------------------ the book beside the runs

CREATE TABLE decisions (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app    text COLLATE "C" NOT NULL,
    record text NOT NULL                                   -- JSON of model.placement.Decision
);
CREATE INDEX decisions_of ON decisions (app, id);

CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app        text COLLATE "C" NOT NULL,
    at         double precision NOT NULL,
    kind       text             NOT NULL,
    message    text             NOT NULL,
    worker_uid text
);
CREATE INDEX events_of ON events (app, id);

CREATE TABLE audit (
    id         bigint PRIMARY KEY,
    at         double precision NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    subject    text NOT NULL,
    action     text NOT NULL,
    object     text NOT NULL,
    result     text NOT NULL,
    reason     text NOT NULL,
    request_id text NOT NULL,
    previous   text NOT NULL UNIQUE,                       -- a chain that forks is refused by the database itself
    hash       text NOT NULL
);
CREATE INDEX audit_of ON audit (tenant, id);

CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only';
END
$$;
CREATE TRIGGER audit_never_changes BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_only_grows();
CREATE TRIGGER audit_is_never_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();

CREATE TABLE leads (
    name   text COLLATE "C" PRIMARY KEY,
    holder text             NOT NULL,
    term   bigint           NOT NULL,
    until  double precision NOT NULL
);

CREATE TABLE pins (
    scope        text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    fingerprint  text COLLATE "C" NOT NULL,
    taken_at     double precision NOT NULL,
    run_id       text COLLATE "C",                         -- the run that it stands for, or else
    status       integer,                                  -- the answer that it stands for; neither yet: another is at it
    body         bytea,
    content_type text,
    PRIMARY KEY (scope, key)
);
CREATE INDEX pins_taken ON pins (taken_at);

-- ------------------------------------------------------------ upkeep

-- What is queued and what is live passes through these tables; the dead rows it leaves are cleared by numbers, not by
-- a part of the table, so that a million finished runs don't postpone it.
ALTER TABLE runs     SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE attempts SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE shares   SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE lines    SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
