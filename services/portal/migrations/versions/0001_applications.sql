-- Organisations that use FinID.
CREATE TABLE portal.participants (
    name text PRIMARY KEY CHECK (name ~ '^participants/[a-z2-7]{26}$'),
    title text NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'SUSPENDED')),
    created_at timestamptz NOT NULL
);

-- What they connect; each has one client id for all its services.
CREATE TABLE portal.applications (
    name text PRIMARY KEY CHECK (name ~ '^applications/[a-z2-7]{26}$'),
    participant text NOT NULL REFERENCES portal.participants,
    client_id text NOT NULL UNIQUE CHECK (client_id ~ '^[a-z0-9-]{1,64}$'),
    -- What a person sees.
    title text NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'SUSPENDED')),
    channels text[] NOT NULL CHECK (channels <@ ARRAY['HOSTED', 'STEPS', 'STREAM']),
    purposes text[] NOT NULL CHECK (purposes <@ ARRAY['IDENTIFY', 'ISSUE', 'REISSUE', 'REVOKE', 'SIGN']),
    scopes text[] NOT NULL CHECK (scopes <@ ARRAY['name', 'birth_date', 'document']),
    redirect_uris text[] NOT NULL,
    -- The biometric policy its authentications run under.
    policy text NOT NULL,
    created_at timestamptz NOT NULL
);

-- Keyed hashes of client secrets. Two are live while one replaces the other.
CREATE TABLE portal.client_secrets (
    secret_hmac bytea PRIMARY KEY CHECK (octet_length(secret_hmac) = 32),
    client_id text NOT NULL REFERENCES portal.applications (client_id),
    created_at timestamptz NOT NULL,
    retired_at timestamptz
);
CREATE INDEX client_secrets_of_client ON portal.client_secrets (client_id) WHERE retired_at IS NULL;

-- When attempts to log in as a client from an address were made lately that did not succeed (so far).
CREATE TABLE portal.login_attempts (
    origin_hmac bytea PRIMARY KEY CHECK (octet_length(origin_hmac) = 32),
    attempted_at timestamptz[] NOT NULL,
    last_at timestamptz NOT NULL
);
CREATE INDEX login_attempts_by_age ON portal.login_attempts (last_at);

GRANT SELECT ON portal.participants, portal.applications, portal.client_secrets TO finid_portal;
GRANT SELECT, INSERT, DELETE ON portal.login_attempts TO finid_portal;
GRANT UPDATE (attempted_at, last_at) ON portal.login_attempts TO finid_portal;
