-- Version 1. Times ending in _us are microseconds, in _s seconds since the Unix epoch. One-row tables have id = 1.

CREATE TABLE meaning (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    timezone TEXT NOT NULL,
    settings TEXT NOT NULL
);

CREATE TABLE recorder_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    rebuild INTEGER NOT NULL,
    watermark_us INTEGER NOT NULL,
    final_watermark_us INTEGER NOT NULL,
    now_us INTEGER NOT NULL,
    emitted_us INTEGER NOT NULL
);
INSERT INTO recorder_state VALUES (1, 0, -9223372036854775808, -9223372036854775808, 0, 0);

-- Apart from recorder_state, so that a flush, which reads it for share, waits for the recorder only when the floor rises.
CREATE TABLE acceptance_floor (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    floor_us INTEGER NOT NULL
);
INSERT INTO acceptance_floor VALUES (1, -9223372036854775808);

CREATE TABLE leader (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    holder TEXT,
    expires_us INTEGER NOT NULL
);
INSERT INTO leader VALUES (1, 0, NULL, 0);

CREATE TABLE partitions (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    topic_id TEXT,
    first_offset INTEGER,
    next_offset INTEGER,
    max_event_us INTEGER,
    at_end_since_us INTEGER,
    at_end_reported_us INTEGER,
    halted TEXT,
    counters TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

-- Written by the recorder only: apart from partitions, so that it never conflicts with a flush.
CREATE TABLE folded_event_times (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    folded_event_us INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

CREATE TABLE flushes (
    flush_id INTEGER PRIMARY KEY AUTOINCREMENT,
    flushed_us INTEGER NOT NULL,
    deltas BLOB NOT NULL,
    event_times TEXT NOT NULL
);

-- The ids counted by one flush in one partition: 16 bytes each, big-endian, numbered from from_seq on.
CREATE TABLE event_ids (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    from_seq INTEGER NOT NULL,
    id_count INTEGER NOT NULL,
    ids BLOB NOT NULL,
    PRIMARY KEY (topic, partition, from_seq)
);

-- span: 0 slice, 1 hourly, 2 daily, 3 weekly, 4 monthly.
CREATE TABLE cells (
    span INTEGER NOT NULL,
    start_s INTEGER NOT NULL,
    aggregation_type TEXT NOT NULL,
    group_key TEXT NOT NULL,
    end_s INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    events INTEGER NOT NULL,
    is_final INTEGER NOT NULL,
    dirty INTEGER NOT NULL,
    enqueued_events INTEGER NOT NULL,
    PRIMARY KEY (span, start_s, aggregation_type, group_key)
) WITHOUT ROWID;
CREATE INDEX cells_unfinished ON cells (end_s) WHERE NOT is_final AND span > 0;
CREATE INDEX cells_dirty ON cells (span, start_s, aggregation_type, group_key) WHERE dirty AND span > 0;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    aggregation_id TEXT NOT NULL UNIQUE,
    priority INTEGER NOT NULL,
    record TEXT NOT NULL,
    created_us INTEGER NOT NULL
);
CREATE INDEX outbox_order ON outbox (priority, id);

-- Sent rows. Only the recorder deletes from outbox, so that its snapshot never loses to the relay; it clears these along with them.
CREATE TABLE outbox_sent (
    id INTEGER PRIMARY KEY
);

-- Unknown topic ids (NULL) are distinct: two incarnations that cannot be told apart lose no letter.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flushed_us INTEGER NOT NULL,
    topic TEXT NOT NULL,
    topic_id TEXT,
    partition INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    record_time_us INTEGER,
    cause TEXT NOT NULL,
    detail TEXT NOT NULL,
    message_key BLOB,
    message_value BLOB,
    value_bytes INTEGER NOT NULL,
    published INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, topic_id, partition, log_offset)
);
CREATE INDEX dead_letters_unpublished ON dead_letters (id) WHERE NOT published;
CREATE INDEX dead_letters_published ON dead_letters (flushed_us) WHERE published;

-- Instants are text, 2026-01-01T00:00:00Z.
CREATE TABLE codegen_metrics_aggregated (
    aggregation_id TEXT PRIMARY KEY,
    window_type TEXT NOT NULL,
    window_start TEXT NOT NULL,
    window_end TEXT NOT NULL,
    timezone TEXT NOT NULL,
    aggregation_type TEXT NOT NULL,
    group_key TEXT NOT NULL,
    total_generations INTEGER NOT NULL,
    successful_generations INTEGER NOT NULL,
    failed_generations INTEGER NOT NULL,
    success_rate TEXT,
    duration_statistics TEXT NOT NULL,
    quality_statistics TEXT NOT NULL,
    cost_statistics TEXT NOT NULL,
    rebuild INTEGER NOT NULL,
    events_processed INTEGER NOT NULL,
    is_final INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (window_type, window_start, timezone, aggregation_type, group_key)
);
