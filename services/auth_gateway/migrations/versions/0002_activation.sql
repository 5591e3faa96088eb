-- A key for another phone than the person's last one waits before it is activated; what it replaces is over at once.
ALTER TABLE auth_gateway.certificate
    -- what it was got by; '' for certificates older than this column
    ADD COLUMN authentication text NOT NULL DEFAULT '',
    ADD COLUMN activatable_at timestamptz,
    ADD COLUMN activation text NOT NULL DEFAULT 'DONE' CHECK (activation IN ('WAITING', 'DONE', 'GIVEN_UP')),
    ADD COLUMN replaced boolean NOT NULL DEFAULT false;
CREATE INDEX certificate_waiting ON auth_gateway.certificate (activatable_at) WHERE activation = 'WAITING';
CREATE INDEX certificate_of_subject ON auth_gateway.certificate (subject, created_at);

GRANT UPDATE (activation, replaced) ON auth_gateway.certificate TO finid_auth_gateway;
