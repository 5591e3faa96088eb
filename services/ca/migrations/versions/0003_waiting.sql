-- INTENDED -> ISSUED <-> SUSPENDED -> REVOKED, ISSUED -> REVOKED, or INTENDED -> ABANDONED; of a certificate that replaces
-- another INTENDED -> WAITING -> ISSUED, WAITING -> REVOKED. What waits is good, and not what is in force.
ALTER TABLE ca.certificates
    -- The credential whose certificate it replaces; '' for none, and for those from before it was kept.
    ADD COLUMN superseded text NOT NULL DEFAULT '',
    DROP CONSTRAINT certificates_state_check,
    DROP CONSTRAINT certificates_check,
    DROP CONSTRAINT certificates_check1,
    DROP CONSTRAINT certificates_check2,
    ADD CHECK (state IN ('INTENDED', 'WAITING', 'ISSUED', 'SUSPENDED', 'REVOKED', 'ABANDONED')),
    ADD CHECK ((state IN ('WAITING', 'ISSUED', 'SUSPENDED', 'REVOKED')) = (issued_at IS NOT NULL)),
    ADD CHECK ((state IN ('WAITING', 'ISSUED', 'SUSPENDED', 'REVOKED')) = (certificate_sha256 IS NOT NULL)),
    ADD CHECK ((state IN ('WAITING', 'ISSUED', 'SUSPENDED', 'REVOKED')) = (sealed_certificate IS NOT NULL));

-- As before, but for one that waits: nobody is told anything else of it when it comes into force.
CREATE OR REPLACE FUNCTION ca.audit_certificate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.state <> OLD.state THEN
        PERFORM ca.append_audit(
            NEW.state, pg_catalog.encode(NEW.serial, 'hex'), NEW.actor, NEW.revocation_reason,
            coalesce(pg_catalog.encode(NEW.certificate_sha256, 'hex'), ''),
            -- Nobody was told of an intent; what becomes of it otherwise, and all that follows, changes what is told.
            TG_OP = 'UPDATE'
                AND NOT (OLD.state = 'INTENDED' AND NEW.state IN ('ISSUED', 'WAITING'))
                AND NOT (OLD.state = 'WAITING' AND NEW.state = 'ISSUED')
        );
    END IF;
    RETURN NULL;
END $$;
