-- Every serial that was ever meant to be signed. INTENDED -> ISSUED -> REVOKED, or INTENDED -> ABANDONED.
-- The person is found by a keyed hash of the IIN; the certificate, which names the person, is sealed (AES-256-GCM).
CREATE TABLE ca.certificates (
    serial bytea PRIMARY KEY CHECK (octet_length(serial) = 20),
    -- One certificate for each transaction, key and credential, over all replicas.
    txn bytea NOT NULL UNIQUE CHECK (octet_length(txn) = 32),
    public_key_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(public_key_sha256) = 32),
    credential text NOT NULL UNIQUE,
    request_id text NOT NULL,
    subject_hmac bytea NOT NULL CHECK (octet_length(subject_hmac) = 32),
    profile text NOT NULL,
    state text NOT NULL CHECK (state IN ('INTENDED', 'ISSUED', 'REVOKED', 'ABANDONED')),
    intended_at timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    issued_at timestamptz,
    certificate_sha256 bytea UNIQUE CHECK (octet_length(certificate_sha256) = 32),
    sealed_certificate bytea,
    -- Since when relying parties must not go by it, for ABANDONED too; the reason is a name of RFC 5280.
    revoked_at timestamptz,
    revocation_reason text NOT NULL DEFAULT '',
    revocation_txn bytea UNIQUE CHECK (octet_length(revocation_txn) = 32),
    revocation_request_id text NOT NULL DEFAULT '',
    CHECK ((state IN ('ISSUED', 'REVOKED')) = (issued_at IS NOT NULL)),
    CHECK ((state IN ('ISSUED', 'REVOKED')) = (certificate_sha256 IS NOT NULL)),
    CHECK ((state IN ('ISSUED', 'REVOKED')) = (sealed_certificate IS NOT NULL)),
    CHECK ((state IN ('REVOKED', 'ABANDONED')) = (revoked_at IS NOT NULL)),
    CHECK ((state = 'REVOKED') = (revocation_txn IS NOT NULL))
);
CREATE INDEX certificates_revoked ON ca.certificates (serial) WHERE state IN ('REVOKED', 'ABANDONED');
CREATE INDEX certificates_intended ON ca.certificates (intended_at) WHERE state = 'INTENDED';

-- Revocation lists of the issuing CA as published. Only ever added to.
CREATE TABLE ca.crls (
    number bigint PRIMARY KEY CHECK (number > 0),
    this_update timestamptz NOT NULL,
    next_update timestamptz NOT NULL,
    entries integer NOT NULL,
    crl_der bytea NOT NULL
);

GRANT SELECT, INSERT ON ca.certificates, ca.crls TO finid_ca;
GRANT UPDATE (
    state, issued_at, certificate_sha256, sealed_certificate,
    revoked_at, revocation_reason, revocation_txn, revocation_request_id
) ON ca.certificates TO finid_ca;
