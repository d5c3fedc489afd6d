-- Version 1. Times ending in _us are microseconds, in _s seconds since the Unix epoch. One-row tables have id = 1.
-- Keys compare by bytes (collation C), as in the code.

CREATE TABLE meaning (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    timezone TEXT NOT NULL,
    settings TEXT NOT NULL
);

CREATE TABLE recorder_state (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    rebuild BIGINT NOT NULL,
    watermark_us BIGINT NOT NULL,
    final_watermark_us BIGINT NOT NULL,
    now_us BIGINT NOT NULL,
    emitted_us BIGINT NOT NULL
);
INSERT INTO recorder_state VALUES (1, 0, -9223372036854775808, -9223372036854775808, 0, 0);

-- Apart from recorder_state, so that a flush, which reads it for share, waits for the recorder only when the floor rises.
CREATE TABLE acceptance_floor (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    floor_us BIGINT NOT NULL
);
INSERT INTO acceptance_floor VALUES (1, -9223372036854775808);

CREATE TABLE leader (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,
    holder TEXT,
    expires_us BIGINT NOT NULL
);
INSERT INTO leader VALUES (1, 0, NULL, 0);

CREATE TABLE partitions (
    topic TEXT COLLATE "C" NOT NULL,
    partition BIGINT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    owner TEXT,
    topic_id TEXT,
    first_offset BIGINT,
    next_offset BIGINT,
    max_event_us BIGINT,
    at_end_since_us BIGINT,
    at_end_reported_us BIGINT,
    halted TEXT,
    counters TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- Written by the recorder only: apart from partitions, so that it never conflicts with a flush.
CREATE TABLE folded_event_times (
    topic TEXT COLLATE "C" NOT NULL,
    partition BIGINT NOT NULL,
    folded_event_us BIGINT NOT NULL,
    PRIMARY KEY (topic, partition)
);

CREATE TABLE flushes (
    flush_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flushed_us BIGINT NOT NULL,
    deltas BYTEA NOT NULL,
    event_times TEXT NOT NULL
);

-- The ids counted by one flush in one partition: 16 bytes each, big-endian, numbered from from_seq on.
CREATE TABLE event_ids (
    topic TEXT COLLATE "C" NOT NULL,
    partition BIGINT NOT NULL,
    from_seq BIGINT NOT NULL,
    id_count BIGINT NOT NULL,
    ids BYTEA NOT NULL,
    PRIMARY KEY (topic, partition, from_seq)
);

-- span: 0 slice, 1 hourly, 2 daily, 3 weekly, 4 monthly.
CREATE TABLE cells (
    span BIGINT NOT NULL,
    start_s BIGINT NOT NULL,
    aggregation_type TEXT COLLATE "C" NOT NULL,
    group_key TEXT COLLATE "C" NOT NULL,
    end_s BIGINT NOT NULL,
    bytes BYTEA NOT NULL,
    events BIGINT NOT NULL,
    is_final BOOLEAN NOT NULL,
    dirty BOOLEAN NOT NULL,
    enqueued_events BIGINT NOT NULL,
    PRIMARY KEY (span, start_s, aggregation_type, group_key)
);
CREATE INDEX cells_unfinished ON cells (end_s) WHERE NOT is_final AND span > 0;
CREATE INDEX cells_dirty ON cells (span, start_s, aggregation_type, group_key) WHERE dirty AND span > 0;

CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    aggregation_id TEXT NOT NULL UNIQUE,
    priority BIGINT NOT NULL,
    record TEXT NOT NULL,
    created_us BIGINT NOT NULL
);
CREATE INDEX outbox_order ON outbox (priority, id);

-- Sent rows. Only the recorder deletes from outbox, so that its snapshot never loses to the relay; it clears these along with them.
CREATE TABLE outbox_sent (
    id BIGINT PRIMARY KEY
);

-- Unknown topic ids (NULL) are distinct: two incarnations that cannot be told apart lose no letter.
CREATE TABLE dead_letters (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flushed_us BIGINT NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    topic_id TEXT,
    partition BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    record_time_us BIGINT,
    cause TEXT NOT NULL,
    detail TEXT NOT NULL,
    message_key BYTEA,
    message_value BYTEA,
    value_bytes BIGINT NOT NULL,
    published BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (topic, topic_id, partition, log_offset)
);
CREATE INDEX dead_letters_unpublished ON dead_letters (id) WHERE NOT published;
CREATE INDEX dead_letters_published ON dead_letters (flushed_us) WHERE published;

CREATE TABLE codegen_metrics_aggregated (
    aggregation_id UUID PRIMARY KEY,
    window_type TEXT NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    window_end TIMESTAMPTZ NOT NULL,
    timezone TEXT NOT NULL,
    aggregation_type TEXT COLLATE "C" NOT NULL,
    group_key TEXT COLLATE "C" NOT NULL,
    total_generations BIGINT NOT NULL,
    successful_generations BIGINT NOT NULL,
    failed_generations BIGINT NOT NULL,
    success_rate NUMERIC,
    duration_statistics JSONB NOT NULL,
    quality_statistics JSONB NOT NULL,
    cost_statistics JSONB NOT NULL,
    rebuild BIGINT NOT NULL,
    events_processed BIGINT NOT NULL,
    is_final BOOLEAN NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (window_type, window_start, timezone, aggregation_type, group_key)
);
