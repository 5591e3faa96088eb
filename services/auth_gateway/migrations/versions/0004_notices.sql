-- What people are to be told: one row for each signature, and for each certificate and number of days before its end. No
-- phone: it is read where it is kept, when it is needed.
CREATE TABLE auth_gateway.notice (
    -- signatures/{id} or certificates/{serial}/{days}
    name text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('SIGNED', 'EXPIRY')),
    -- what was signed by, or what the certificate was got by
    authentication text NOT NULL,
    certificate text NOT NULL DEFAULT '',
    not_after timestamptz,
    within_days integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT 'WAITING' CHECK (state IN ('WAITING', 'TOLD', 'DROPPED', 'GIVEN_UP')),
    reason text NOT NULL DEFAULT '',
    tries integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    -- whoever takes it sets this ahead: nobody else tries until then
    due_at timestamptz NOT NULL,
    gives_up_at timestamptz NOT NULL,
    settled_at timestamptz,
    CHECK ((kind = 'EXPIRY') = (not_after IS NOT NULL)),
    CHECK ((state = 'WAITING') = (settled_at IS NULL))
);
CREATE INDEX notice_due ON auth_gateway.notice (kind DESC, due_at) WHERE state = 'WAITING';
CREATE INDEX notice_settled ON auth_gateway.notice (gives_up_at) WHERE state <> 'WAITING';

-- When certificates that end soon are looked for next, by whichever replica comes first.
CREATE TABLE auth_gateway.expiry_sweep (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    next_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO auth_gateway.expiry_sweep DEFAULT VALUES;

GRANT SELECT, INSERT, DELETE ON auth_gateway.notice TO finid_auth_gateway;
GRANT UPDATE (state, reason, tries, due_at, settled_at) ON auth_gateway.notice TO finid_auth_gateway;
GRANT SELECT, UPDATE (next_at) ON auth_gateway.expiry_sweep TO finid_auth_gateway;
