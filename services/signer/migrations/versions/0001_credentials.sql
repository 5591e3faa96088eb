-- Subject keys, wrapped by the token's KEK: useless without it. What a row claims is checked against its attestation.
CREATE TABLE signer.credentials (
    credential text PRIMARY KEY CHECK (credential ~ '^credentials/[a-z2-7]{26}$'),
    -- The transaction that made the key: one key for each.
    txn bytea NOT NULL UNIQUE CHECK (octet_length(txn) = 32),
    request_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'DISABLED')),
    subject_hmac bytea NOT NULL CHECK (octet_length(subject_hmac) = 32),
    phone_hmac bytea NOT NULL CHECK (octet_length(phone_hmac) = 32),
    public_key_der bytea NOT NULL,
    wrapped_key bytea NOT NULL,
    csr_der bytea NOT NULL,
    key_attestation text NOT NULL,
    -- '' unless the key replaces another credential's (REISSUE).
    superseded text NOT NULL,
    -- Of the one certificate that the key signs under; empty while PENDING.
    certificate_sha256 bytea NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    activated_at timestamptz,
    disabled_at timestamptz,
    CHECK (octet_length(certificate_sha256) = CASE WHEN activated_at IS NULL THEN 0 ELSE 32 END),
    CHECK ((state = 'DISABLED') = (disabled_at IS NOT NULL)),
    CHECK ((state = 'PENDING') = (activated_at IS NULL AND disabled_at IS NULL))
);
CREATE INDEX credentials_of_subject ON signer.credentials (subject_hmac);

-- One row for each transaction that came to be signed: first the intent, then the signatures, or neither any more.
CREATE TABLE signer.signatures (
    txn bytea PRIMARY KEY CHECK (octet_length(txn) = 32),
    request_id text NOT NULL,
    credential text NOT NULL REFERENCES signer.credentials,
    state text NOT NULL CHECK (state IN ('INTENT', 'RECORDED', 'ABORTED')),
    digests_sha256 bytea[] NOT NULL CHECK (cardinality(digests_sha256) BETWEEN 1 AND 100),
    signatures bytea[] NOT NULL DEFAULT '{}',
    intended_at timestamptz NOT NULL,
    lease_ends_at timestamptz NOT NULL,
    ended_at timestamptz,
    CHECK (cardinality(signatures) = CASE WHEN state = 'RECORDED' THEN cardinality(digests_sha256) ELSE 0 END),
    CHECK ((state = 'INTENT') = (ended_at IS NULL))
);
CREATE INDEX signatures_open ON signer.signatures (lease_ends_at) WHERE state = 'INTENT';
CREATE INDEX signatures_open_of_credential ON signer.signatures (credential) WHERE state = 'INTENT';

-- One row for each transaction that disabled a credential.
CREATE TABLE signer.revocations (
    txn bytea PRIMARY KEY CHECK (octet_length(txn) = 32),
    request_id text NOT NULL,
    credential text NOT NULL REFERENCES signer.credentials,
    disabled_at timestamptz NOT NULL
);

GRANT SELECT, INSERT ON signer.credentials, signer.signatures, signer.revocations TO finid_signer;
GRANT UPDATE (state, certificate_sha256, activated_at, disabled_at) ON signer.credentials TO finid_signer;
GRANT UPDATE (state, signatures, ended_at) ON signer.signatures TO finid_signer;
