-- States: PENDING, ACTIVE, SUSPENDED, REVOKED (which was DISABLED), DESTROYED. EXPIRED is ACTIVE or SUSPENDED past not_after.
ALTER TABLE signer.credentials
    -- Of the certificate. The end of time (RFC 5280, 4.1.2.5) for those activated before it was kept: only the CA knows.
    ADD COLUMN not_after timestamptz,
    -- A key made for another phone than the person's last one waits.
    ADD COLUMN activatable_from timestamptz,
    ADD COLUMN suspended_at timestamptz,
    -- Why it is over: REVOKED, SUPERSEDED or CANCELLED; '' unless it was ended by somebody.
    ADD COLUMN ending text NOT NULL DEFAULT '' CHECK (ending IN ('', 'REVOKED', 'SUPERSEDED', 'CANCELLED')),
    ADD COLUMN destroyed_at timestamptz,
    -- KEY_DESTRUCTION.
    ADD COLUMN destruction_proof text NOT NULL DEFAULT '';

ALTER TABLE signer.credentials
    DROP CONSTRAINT credentials_state_check,
    DROP CONSTRAINT credentials_check1,
    DROP CONSTRAINT credentials_check2;
UPDATE signer.credentials SET activatable_from = created_at;
UPDATE signer.credentials SET not_after = '9999-12-31 23:59:59Z' WHERE activated_at IS NOT NULL;
UPDATE signer.credentials AS known SET state = 'REVOKED', ending = CASE
        WHEN EXISTS (SELECT 1 FROM signer.revocations AS by WHERE by.credential = known.credential) THEN 'REVOKED'
        ELSE 'SUPERSEDED' END
    WHERE state = 'DISABLED';
ALTER TABLE signer.credentials
    ALTER COLUMN activatable_from SET NOT NULL,
    ADD CHECK (state IN ('PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED', 'DESTROYED')),
    ADD CHECK ((activated_at IS NULL) = (not_after IS NULL)),
    ADD CHECK ((state = 'PENDING') = (activated_at IS NULL AND disabled_at IS NULL)),
    ADD CHECK ((state = 'SUSPENDED') = (suspended_at IS NOT NULL)),
    ADD CHECK ((state IN ('REVOKED', 'DESTROYED')) = (disabled_at IS NOT NULL)),
    ADD CHECK (state <> 'REVOKED' OR ending <> ''),
    ADD CHECK ((state = 'DESTROYED') = (destroyed_at IS NOT NULL)),
    ADD CHECK ((state = 'DESTROYED') = (octet_length(wrapped_key) = 0)),
    ADD CHECK ((state = 'DESTROYED') = (destruction_proof <> ''));
CREATE INDEX credentials_activated ON signer.credentials (subject_hmac, activated_at) WHERE activated_at IS NOT NULL;

-- One row for each transaction that changed a credential's state.
ALTER TABLE signer.revocations RENAME TO changes;
ALTER TABLE signer.changes RENAME COLUMN disabled_at TO changed_at;
ALTER TABLE signer.changes ADD COLUMN purpose text NOT NULL DEFAULT 'REVOKE'
    CHECK (purpose IN ('REVOKE', 'SUSPEND', 'RESUME'));
ALTER TABLE signer.changes ALTER COLUMN purpose DROP DEFAULT;

GRANT UPDATE (not_after, suspended_at, ending) ON signer.credentials TO finid_signer;

-- A wrapped key is lost when it is overwritten, so the signer's role may not: only erase one that can never sign again.
CREATE FUNCTION signer.destroy_key(name text, wrapped bytea, at timestamptz, proof text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    UPDATE signer.credentials
    SET state = 'DESTROYED', wrapped_key = '', suspended_at = NULL, disabled_at = coalesce(disabled_at, at),
        destroyed_at = at, destruction_proof = proof
    WHERE credential = name AND wrapped_key = wrapped
      AND (state = 'REVOKED' OR (state IN ('ACTIVE', 'SUSPENDED') AND not_after <= at))
    RETURNING true
$$;
REVOKE ALL ON FUNCTION signer.destroy_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION signer.destroy_key TO finid_signer;
