-- Coarse numbers of an ended attempt's frames (passive.fingerprint), AES-256-GCM, bound to the session; erased after a time
-- that is a setting, and with the session at the latest.
CREATE TABLE liveness.fingerprints (
    session text PRIMARY KEY REFERENCES liveness.sessions ON DELETE CASCADE,
    sealed bytea NOT NULL,
    made_at timestamptz NOT NULL
);
CREATE INDEX ON liveness.fingerprints (made_at);
GRANT SELECT, INSERT, DELETE ON liveness.fingerprints TO finid_liveness;
