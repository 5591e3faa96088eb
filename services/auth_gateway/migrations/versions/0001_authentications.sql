CREATE TABLE auth_gateway.authentication (
    name text PRIMARY KEY,
    application text NOT NULL,
    state text NOT NULL CHECK (state IN (
        'AWAITING_CONSENTS', 'AWAITING_LIVENESS', 'AWAITING_CODE', 'COMPLETING', 'FINISHED', 'CANCELLED', 'EXPIRED')),
    language text NOT NULL,
    -- keyed pseudonym of the person
    subject text NOT NULL,
    transaction bytea NOT NULL,
    txn bytea NOT NULL UNIQUE,
    -- IIN, phone and salts, sealed for this name, application and transaction
    openings bytea NOT NULL,
    -- [{"id", "version", "text"}]: what the person is shown; the transaction holds their digests
    consents jsonb NOT NULL,
    redirect_uri text NOT NULL,
    return_state text NOT NULL,
    code_challenge text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    consented_at timestamptz,
    -- of documents; '' unless something is signed
    preparation_receipt text NOT NULL DEFAULT '',
    state_record text NOT NULL DEFAULT '',
    liveness_receipt text NOT NULL DEFAULT '',
    face_match text NOT NULL DEFAULT '',
    sms_otp text NOT NULL DEFAULT '',
    key_attestation text NOT NULL DEFAULT '',
    -- JWE that only facematch can open, read by that step alone; erased once it has served
    photo_jwe text NOT NULL DEFAULT '',
    liveness_session text NOT NULL DEFAULT '',
    challenge text NOT NULL DEFAULT '',
    scores jsonb NOT NULL DEFAULT '{}',
    -- a completion that runs holds the row until then; the time also names the holder
    lease_ends_at timestamptz NOT NULL DEFAULT '-infinity',
    capture_token_sha256 bytea NOT NULL UNIQUE,
    capture_session_sha256 bytea,
    result_code_sha256 bytea,
    verdict text CHECK (verdict IN ('SUCCESS', 'FAILURE')),
    reason text NOT NULL DEFAULT '',
    outcome text NOT NULL DEFAULT '',
    -- released personal data, sealed
    person bytea,
    finished_at timestamptz,
    result_read_at timestamptz,
    CHECK ((state = 'FINISHED') = (verdict IS NOT NULL)),
    CHECK ((verdict = 'SUCCESS') = (reason = '') OR verdict IS NULL)
);
CREATE INDEX authentication_open_by_subject ON auth_gateway.authentication (subject)
    WHERE state IN ('AWAITING_CONSENTS', 'AWAITING_LIVENESS', 'AWAITING_CODE');
CREATE INDEX authentication_completing ON auth_gateway.authentication (lease_ends_at) WHERE state = 'COMPLETING';
CREATE INDEX authentication_expiring ON auth_gateway.authentication (expires_at)
    WHERE state IN ('AWAITING_CONSENTS', 'AWAITING_LIVENESS', 'AWAITING_CODE');

CREATE TABLE auth_gateway.certificate (
    -- certificates/{serial}
    name text PRIMARY KEY,
    subject text NOT NULL,
    credential text NOT NULL UNIQUE,
    -- names the person, so it is sealed
    certificate_der bytea NOT NULL,
    chain_der bytea[] NOT NULL,
    created_at timestamptz NOT NULL
);

-- What an authentication is done for: a certificate order or a signature.
CREATE TABLE auth_gateway.operation (
    -- certificateOrders/{id} or signatures/{id}
    name text PRIMARY KEY,
    application text NOT NULL,
    authentication text NOT NULL UNIQUE REFERENCES auth_gateway.authentication (name),
    -- of documents; '' for a certificate order
    preparation text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE auth_gateway.request (
    application text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    -- keyed digest of the request
    digest bytea NOT NULL,
    -- what the first call made
    resource text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (application, method, request_id)
);

-- Every recorded request, for metering: no personal data.
CREATE TABLE auth_gateway.journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application text NOT NULL,
    method text NOT NULL,
    resource text NOT NULL,
    code text NOT NULL,
    reason text NOT NULL,
    duration_ms integer NOT NULL,
    called_at timestamptz NOT NULL
);
CREATE INDEX journal_by_application ON auth_gateway.journal (application, called_at DESC, id DESC);

GRANT SELECT, INSERT ON auth_gateway.authentication TO finid_auth_gateway;
GRANT UPDATE (state, consented_at, state_record, liveness_receipt, face_match, sms_otp, key_attestation, photo_jwe,
    liveness_session, challenge, scores, lease_ends_at, capture_session_sha256, result_code_sha256, verdict, reason, outcome,
    person, finished_at, result_read_at) ON auth_gateway.authentication TO finid_auth_gateway;
GRANT SELECT, INSERT ON auth_gateway.certificate, auth_gateway.operation, auth_gateway.request, auth_gateway.journal
    TO finid_auth_gateway;
