-- INTENDED -> ISSUED <-> SUSPENDED -> REVOKED, ISSUED -> REVOKED, or INTENDED -> ABANDONED.

-- Every act that changed a certificate after it was issued, once each over all replicas, whatever became of it since:
-- the transaction of a person, or the digest of an order. A repeat finds its first answer here.
CREATE TABLE ca.acts (
    act bytea PRIMARY KEY CHECK (octet_length(act) = 32),
    request_id text NOT NULL,
    serial bytea NOT NULL REFERENCES ca.certificates (serial),
    kind text NOT NULL CHECK (kind IN ('REVOKE', 'SUSPEND', 'RESUME')),
    actor text NOT NULL CHECK (actor IN ('PERSON', 'OPERATOR', 'CA')),
    reason text NOT NULL,
    at timestamptz NOT NULL,
    -- The order as it was signed; a person's receipts are kept by the hub.
    evidence text NOT NULL DEFAULT ''
);
INSERT INTO ca.acts (act, request_id, serial, kind, actor, reason, at)
    SELECT revocation_txn, revocation_request_id, serial, 'REVOKE', 'PERSON', revocation_reason, revoked_at
    FROM ca.certificates WHERE state = 'REVOKED' AND revocation_reason <> 'superseded';

-- Its checks of the columns that go, and of the states that there were.
ALTER TABLE ca.certificates
    DROP COLUMN revocation_txn,
    DROP COLUMN revocation_request_id,
    DROP CONSTRAINT certificates_state_check,
    DROP CONSTRAINT certificates_check,
    DROP CONSTRAINT certificates_check1,
    DROP CONSTRAINT certificates_check2,
    DROP CONSTRAINT certificates_check3,
    -- The application policy under which the person was authenticated; '' before it was kept.
    ADD COLUMN policy text NOT NULL DEFAULT '',
    -- Who put it into its state.
    ADD COLUMN actor text NOT NULL DEFAULT '' CHECK (actor IN ('', 'PERSON', 'OPERATOR', 'CA')),
    ADD CHECK (state IN ('INTENDED', 'ISSUED', 'SUSPENDED', 'REVOKED', 'ABANDONED')),
    ADD CHECK ((state IN ('ISSUED', 'SUSPENDED', 'REVOKED')) = (issued_at IS NOT NULL)),
    ADD CHECK ((state IN ('ISSUED', 'SUSPENDED', 'REVOKED')) = (certificate_sha256 IS NOT NULL)),
    ADD CHECK ((state IN ('ISSUED', 'SUSPENDED', 'REVOKED')) = (sealed_certificate IS NOT NULL)),
    ADD CHECK ((state IN ('SUSPENDED', 'REVOKED', 'ABANDONED')) = (revoked_at IS NOT NULL)),
    ADD CHECK ((state = 'SUSPENDED') = (revocation_reason = 'certificateHold'));
ALTER TABLE ca.certificates ALTER COLUMN policy DROP DEFAULT;

DROP INDEX ca.certificates_revoked;
CREATE INDEX certificates_listed ON ca.certificates (serial) WHERE state IN ('SUSPENDED', 'REVOKED', 'ABANDONED');
-- One certificate in force for each person, profile and policy.
CREATE UNIQUE INDEX certificates_in_force ON ca.certificates (subject_hmac, profile, policy)
    WHERE state IN ('ISSUED', 'SUSPENDED') AND policy <> '';
CREATE INDEX certificates_expiring ON ca.certificates (not_after, serial) WHERE state IN ('ISSUED', 'SUSPENDED');

-- The last change of the ledger that a list knows of; lists from before it was kept know of none.
ALTER TABLE ca.crls ADD COLUMN as_of bigint NOT NULL DEFAULT -1;
ALTER TABLE ca.crls ALTER COLUMN as_of DROP DEFAULT;

-- What happened, in the order in which it was committed; each entry's hash covers the one before. Triggers write it, the
-- service's role can only read it: no change of a certificate's state goes by without an entry.
CREATE TABLE ca.audit (
    seq bigint PRIMARY KEY CHECK (seq > 0),
    at timestamptz NOT NULL,
    -- The state entered, or CRL.
    event text NOT NULL,
    -- The serial, or the number of the list, in hex.
    subject text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    -- Of the certificate or list, in hex.
    sha256 text NOT NULL,
    -- Whether relying parties are told something else from now on.
    changes_status boolean NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_status ON ca.audit (seq) WHERE changes_status;

CREATE FUNCTION ca.append_audit(event text, subject text, actor text, reason text, sha256 text, changes_status boolean)
RETURNS void LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
    last record;
    moment timestamptz;
    entry text;
BEGIN
    -- One at a time until its transaction commits, so that the order of numbers is the order of commits.
    PERFORM pg_catalog.pg_advisory_xact_lock(398, 1);
    SELECT seq, hash INTO last FROM ca.audit ORDER BY seq DESC LIMIT 1;
    moment := pg_catalog.clock_timestamp();
    entry := pg_catalog.concat_ws(
        '|', coalesce(last.seq, 0) + 1, floor(extract(epoch FROM moment) * 1000000)::bigint, event, subject, actor,
        reason, sha256, changes_status::text
    );
    INSERT INTO ca.audit (seq, at, event, subject, actor, reason, sha256, changes_status, hash) VALUES (
        coalesce(last.seq, 0) + 1, moment, event, subject, actor, reason, sha256, changes_status,
        pg_catalog.sha256(coalesce(last.hash, pg_catalog.decode(repeat('00', 32), 'hex'))
            || pg_catalog.convert_to(entry, 'UTF8'))
    );
END $$;

CREATE FUNCTION ca.audit_certificate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.state <> OLD.state THEN
        PERFORM ca.append_audit(
            NEW.state, pg_catalog.encode(NEW.serial, 'hex'), NEW.actor, NEW.revocation_reason,
            coalesce(pg_catalog.encode(NEW.certificate_sha256, 'hex'), ''),
            -- Nobody was told of an intent; what becomes of it otherwise, and all that follows, changes what is told.
            TG_OP = 'UPDATE' AND NOT (OLD.state = 'INTENDED' AND NEW.state = 'ISSUED')
        );
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ca.audit_crl() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    PERFORM ca.append_audit(
        'CRL', pg_catalog.to_hex(NEW.number), 'CA', '', pg_catalog.encode(pg_catalog.sha256(NEW.crl_der), 'hex'), false
    );
    RETURN NULL;
END $$;

CREATE FUNCTION ca.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION 'the audit is only ever added to';
END $$;

-- At commit: rows are locked before the chain is, always in this order, so that two transactions never wait for each other.
CREATE CONSTRAINT TRIGGER audit_certificate AFTER INSERT OR UPDATE ON ca.certificates
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ca.audit_certificate();
CREATE CONSTRAINT TRIGGER audit_crl AFTER INSERT ON ca.crls
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ca.audit_crl();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ca.audit EXECUTE FUNCTION ca.refuse_change();

REVOKE ALL ON FUNCTION ca.append_audit, ca.audit_certificate, ca.audit_crl, ca.refuse_change FROM PUBLIC;
GRANT SELECT ON ca.audit TO finid_ca;
GRANT SELECT, INSERT ON ca.acts TO finid_ca;
GRANT UPDATE (actor) ON ca.certificates TO finid_ca;
