-- Purposes SUSPEND and RESUME.
ALTER TABLE portal.applications DROP CONSTRAINT applications_purposes_check;
ALTER TABLE portal.applications ADD CONSTRAINT applications_purposes_check
    CHECK (purposes <@ ARRAY['IDENTIFY', 'ISSUE', 'REISSUE', 'REVOKE', 'SUSPEND', 'RESUME', 'SIGN']);
