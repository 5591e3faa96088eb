-- Every text that anybody agreed to, once, by the digest that the transaction has of it. It names the application that
-- asked, and nobody else.
CREATE TABLE auth_gateway.consent_text (
    text_sha256 bytea PRIMARY KEY CHECK (text_sha256 = sha256(convert_to(text, 'UTF8'))),
    text text NOT NULL
);

-- One consent of one person to one document. It is proof, so it outlives its authentication: no reference to that.
CREATE TABLE auth_gateway.consent (
    -- consents/{id of the authentication}-{document}
    name text PRIMARY KEY,
    authentication text NOT NULL,
    txn bytea NOT NULL,
    -- keyed pseudonym of the person; the transaction's own commitment is what others may see
    subject text NOT NULL,
    iin_commitment text NOT NULL,
    application text NOT NULL,
    application_title text NOT NULL,
    purpose text NOT NULL,
    scopes text[] NOT NULL,
    document text NOT NULL,
    version text NOT NULL,
    language text NOT NULL,
    text_sha256 bytea NOT NULL REFERENCES auth_gateway.consent_text (text_sha256),
    controller text NOT NULL CHECK (controller IN ('APPLICATION', 'OPERATOR')),
    controller_title text NOT NULL,
    -- how: on the hosted page, by the participant's step calls, or by its stream
    channel text NOT NULL,
    -- when the text left for the page, or for the participant's software
    shown_at timestamptz NOT NULL,
    given_at timestamptz NOT NULL,
    withdrawn_at timestamptz,
    withdrawn_by text CHECK (withdrawn_by IN ('PERSON', 'APPLICATION')),
    -- the person's authentication under which she withdrew it; '' for the application
    withdrawn_in text NOT NULL DEFAULT '',
    UNIQUE (authentication, document),
    CHECK ((withdrawn_at IS NULL) = (withdrawn_by IS NULL)),
    CHECK (shown_at <= given_at)
);
CREATE INDEX consent_live_of_subject ON auth_gateway.consent (subject, given_at DESC, name DESC)
    WHERE withdrawn_at IS NULL;
CREATE INDEX consent_of_application ON auth_gateway.consent (application, given_at DESC, name DESC);

-- What was withdrawn stays withdrawn, and what was said stays said, whoever has the gateway's role.
CREATE FUNCTION auth_gateway.consent_is_withdrawn_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a consent is withdrawn once';
END
$$;
CREATE TRIGGER withdrawn_once BEFORE UPDATE ON auth_gateway.consent
    FOR EACH ROW WHEN (OLD.withdrawn_at IS NOT NULL) EXECUTE FUNCTION auth_gateway.consent_is_withdrawn_once();

ALTER TABLE auth_gateway.authentication
    ADD COLUMN consents_shown_at timestamptz,
    -- the first withdrawal of any of its consents: from then on no personal data is released
    ADD COLUMN consent_withdrawn_at timestamptz,
    ADD CHECK (consent_withdrawn_at IS NULL OR person IS NULL);

-- What follows from a withdrawal follows in its own statement, and cannot be taken back. The gateway's role may not write
-- openings by itself; an identification made nothing that needs them longer.
CREATE FUNCTION auth_gateway.withdrawal_erases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.person := NULL;
    NEW.photo_jwe := '';
    IF convert_from(NEW.transaction, 'UTF8')::jsonb ->> 'purpose' = 'IDENTIFY' THEN
        NEW.openings := '';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER withdrawal_erases BEFORE UPDATE OF consent_withdrawn_at ON auth_gateway.authentication
    FOR EACH ROW WHEN (NEW.consent_withdrawn_at IS NOT NULL) EXECUTE FUNCTION auth_gateway.withdrawal_erases();
CREATE FUNCTION auth_gateway.withdrawal_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a withdrawal stays';
END
$$;
CREATE TRIGGER withdrawal_stays BEFORE UPDATE OF consent_withdrawn_at ON auth_gateway.authentication
    FOR EACH ROW WHEN (OLD.consent_withdrawn_at IS DISTINCT FROM NEW.consent_withdrawn_at
        AND OLD.consent_withdrawn_at IS NOT NULL)
    EXECUTE FUNCTION auth_gateway.withdrawal_stays();

-- What was given before there was this record: the first versions, whose controllers stand in consents.toml.
WITH given AS (
    SELECT a.*, convert_from(a.transaction, 'UTF8')::jsonb AS t FROM auth_gateway.authentication AS a
    WHERE a.consented_at IS NOT NULL
), documents AS (
    SELECT given.*, item FROM given CROSS JOIN LATERAL jsonb_array_elements(given.consents) AS item
), texts AS (
    INSERT INTO auth_gateway.consent_text (text_sha256, text)
    SELECT DISTINCT sha256(convert_to(item ->> 'text', 'UTF8')), item ->> 'text' FROM documents
)
INSERT INTO auth_gateway.consent (name, authentication, txn, subject, iin_commitment, application, application_title,
    purpose, scopes, document, version, language, text_sha256, controller, controller_title, channel, shown_at, given_at)
SELECT replace(name, 'authentications/', 'consents/') || '-' || (item ->> 'id'), name, txn, subject, t ->> 'iin_commitment', application,
    t ->> 'application_title', t ->> 'purpose', ARRAY(SELECT jsonb_array_elements_text(t -> 'scopes')), item ->> 'id',
    item ->> 'version', language, sha256(convert_to(item ->> 'text', 'UTF8')),
    CASE item ->> 'id' WHEN 'personal-data' THEN 'APPLICATION' ELSE 'OPERATOR' END,
    CASE item ->> 'id' WHEN 'personal-data' THEN t ->> 'application_title' ELSE 'FinID' END,
    t ->> 'channel', least(created_at, consented_at), consented_at
FROM documents;

GRANT SELECT, INSERT ON auth_gateway.consent, auth_gateway.consent_text TO finid_auth_gateway;
GRANT UPDATE (withdrawn_at, withdrawn_by, withdrawn_in) ON auth_gateway.consent TO finid_auth_gateway;
GRANT UPDATE (consents_shown_at, consent_withdrawn_at) ON auth_gateway.authentication TO finid_auth_gateway;
