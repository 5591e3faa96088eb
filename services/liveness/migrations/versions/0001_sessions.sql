-- A person by the caller's opaque name, the same over all applications. The row is the lock for counting attempts.
CREATE TABLE liveness.people (
    subject text PRIMARY KEY CHECK (length(subject) BETWEEN 16 AND 64),
    last_started_at timestamptz NOT NULL
);

-- One attempt. The script is not here: it follows from the service's secret, the transaction and the nonce.
CREATE TABLE liveness.sessions (
    session text PRIMARY KEY,
    txn bytea NOT NULL CHECK (octet_length(txn) = 32),
    attempt smallint NOT NULL CHECK (attempt > 0),
    subject text NOT NULL REFERENCES liveness.people,
    policy text NOT NULL,
    channel text NOT NULL,
    nonce bytea NOT NULL,
    state text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING', 'PASSED', 'FAILED', 'ABANDONED')),
    failure text NOT NULL DEFAULT '' CHECK ((failure <> '') = (state = 'FAILED')),
    -- Counts the batches judged; of two that come at once, one is refused.
    version integer NOT NULL DEFAULT 0,
    -- Numbers that later frames are judged by; gone when the attempt has ended.
    progress jsonb CHECK ((progress IS NULL) = (state <> 'RUNNING')),
    score_passive_ppm integer,
    score_prompts_ppm integer,
    started_at timestamptz NOT NULL,
    ended_at timestamptz CHECK ((ended_at IS NULL) = (state = 'RUNNING')),
    expires_at timestamptz NOT NULL,
    -- LIVENESS, given again when it is asked for again.
    receipt text CHECK (receipt IS NULL OR state = 'PASSED'),
    concluded_at timestamptz CHECK ((concluded_at IS NULL) = (receipt IS NULL)),
    UNIQUE (txn, attempt)
);
CREATE INDEX ON liveness.sessions (subject, started_at);
CREATE UNIQUE INDEX ON liveness.sessions (txn) WHERE state = 'RUNNING';
CREATE INDEX ON liveness.sessions (expires_at) WHERE state = 'RUNNING';

-- JPEG, AES-256-GCM, bound to session and position; one for each prompt answered.
CREATE TABLE liveness.keyframes (
    session text NOT NULL REFERENCES liveness.sessions ON DELETE CASCADE,
    position smallint NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (session, position)
);

GRANT SELECT, INSERT, DELETE ON liveness.people, liveness.sessions, liveness.keyframes TO finid_liveness;
GRANT UPDATE (last_started_at) ON liveness.people TO finid_liveness;
GRANT UPDATE (
    state, failure, version, progress, score_passive_ppm, score_prompts_ppm, ended_at, receipt, concluded_at
) ON liveness.sessions TO finid_liveness;
