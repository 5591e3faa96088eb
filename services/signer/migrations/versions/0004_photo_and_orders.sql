-- The keyed hash of the reference photo that the person's face was compared with; empty for keys of before it was kept.
-- Of one person, profile and application policy one key is in use; '' for keys of before that was kept.
ALTER TABLE signer.credentials
    ADD COLUMN photo_hmac bytea NOT NULL DEFAULT '' CHECK (octet_length(photo_hmac) IN (0, 32)),
    ADD COLUMN profile text NOT NULL DEFAULT '',
    ADD COLUMN policy text NOT NULL DEFAULT '';
ALTER TABLE signer.credentials
    ALTER COLUMN photo_hmac DROP DEFAULT, ALTER COLUMN profile DROP DEFAULT, ALTER COLUMN policy DROP DEFAULT;

-- On whose word a credential is SUSPENDED; whoever did it ends it. Until orders came here only the person could.
ALTER TABLE signer.credentials
    ADD COLUMN suspended_by text NOT NULL DEFAULT '' CHECK (suspended_by IN ('', 'PERSON', 'OPERATOR', 'CA'));
UPDATE signer.credentials SET suspended_by = 'PERSON' WHERE state = 'SUSPENDED';
ALTER TABLE signer.credentials ADD CHECK (state <> 'SUSPENDED' OR suspended_by <> '');

-- Every order that was carried out, once each, whatever became of it since. One to REVOKE a certificate that no credential
-- has yet keeps it from being activated.
CREATE TABLE signer.orders (
    order_sha256 bytea PRIMARY KEY CHECK (octet_length(order_sha256) = 32),
    certificate_sha256 bytea NOT NULL CHECK (octet_length(certificate_sha256) = 32),
    kind text NOT NULL CHECK (kind IN ('REVOKE', 'SUSPEND', 'RESUME')),
    actor text NOT NULL CHECK (actor IN ('OPERATOR', 'CA')),
    at timestamptz NOT NULL,
    -- The order as it was signed.
    evidence text NOT NULL
);
CREATE INDEX orders_revoke ON signer.orders (certificate_sha256) WHERE kind = 'REVOKE';
-- An order names a certificate.
CREATE INDEX credentials_of_certificate ON signer.credentials (certificate_sha256) WHERE activated_at IS NOT NULL;

GRANT SELECT, INSERT ON signer.orders TO finid_signer;
GRANT UPDATE (suspended_by) ON signer.credentials TO finid_signer;
