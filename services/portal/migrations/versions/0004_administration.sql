-- A secret is named by what says nothing of it, and keeps its name when it is hashed under another key.
ALTER TABLE portal.client_secrets ADD COLUMN id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid();

-- Who changed what and why; written by the functions below, in the transaction that makes the change.
CREATE TABLE portal.administration (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- as PostgreSQL knows who logged in
    login text NOT NULL DEFAULT session_user,
    -- as the person says who it is
    operator text NOT NULL CHECK (length(operator) <= 100 AND operator ~ '[^ ]' AND operator !~ '[[:cntrl:]]'),
    act text NOT NULL CHECK (act IN ('SUSPEND', 'RESUME', 'SECRET_ADD', 'SECRET_END')),
    -- participants/{id} or applications/{id}
    name text NOT NULL,
    secret_id uuid,
    -- when the secret ends
    ends_at timestamptz,
    reason text NOT NULL CHECK (length(reason) <= 500 AND reason ~ '[^ ]' AND reason !~ '[[:cntrl:]]'),
    CHECK ((act IN ('SECRET_ADD', 'SECRET_END')) = (secret_id IS NOT NULL)),
    CHECK ((act = 'SECRET_END') = (ends_at IS NOT NULL))
);
CREATE INDEX administration_of_name ON portal.administration (name, id DESC);

-- Not even the owner's role changes a line by a slip.
CREATE FUNCTION portal.administration_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was done stays recorded';
END
$$;
CREATE TRIGGER administration_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON portal.administration
    FOR EACH STATEMENT EXECUTE FUNCTION portal.administration_stays();

-- Returns the state before, NULL when there is nothing of this name. What is in that state already is not recorded again.
CREATE FUNCTION portal.change_state(subject text, becomes text, operator text, reason text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    before text;
BEGIN
    IF becomes NOT IN ('ACTIVE', 'SUSPENDED') THEN
        RAISE EXCEPTION 'a state is ACTIVE or SUSPENDED';
    END IF;
    SELECT state INTO before FROM portal.participants WHERE name = subject FOR UPDATE;
    IF NOT FOUND THEN
        SELECT state INTO before FROM portal.applications WHERE name = subject FOR UPDATE;
    END IF;
    IF before IS NULL OR before = becomes THEN
        RETURN before;
    END IF;
    UPDATE portal.participants SET state = becomes WHERE name = subject;
    UPDATE portal.applications SET state = becomes WHERE name = subject;
    INSERT INTO portal.administration (operator, act, name, reason)
    VALUES (operator, CASE becomes WHEN 'ACTIVE' THEN 'RESUME' ELSE 'SUSPEND' END, subject, reason);
    RETURN before;
END
$$;

-- Adds a secret of an application beside its only live one, or its first. Returns ADDED, with the secret's id; KNOWN, with
-- the id that it has already, also one that has ended; or NO_APPLICATION or TWO_LIVE.
CREATE FUNCTION portal.add_secret(
    application text, hmac bytea, operator text, reason text, OUT outcome text, OUT secret_id uuid
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    client text;
BEGIN
    -- The row is held: two that add at once come one after the other.
    SELECT a.client_id INTO client FROM portal.applications AS a WHERE a.name = application FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'NO_APPLICATION';
        RETURN;
    END IF;
    SELECT s.id INTO secret_id FROM portal.client_secrets AS s WHERE s.secret_hmac = hmac;
    IF FOUND THEN
        outcome := 'KNOWN';
        RETURN;
    END IF;
    IF (SELECT count(*) FROM portal.client_secrets AS s
        WHERE s.client_id = client AND (s.retired_at IS NULL OR s.retired_at > now())) > 1 THEN
        outcome := 'TWO_LIVE';
        RETURN;
    END IF;
    INSERT INTO portal.client_secrets AS s (secret_hmac, client_id, created_at) VALUES (hmac, client, now())
    RETURNING s.id INTO secret_id;
    INSERT INTO portal.administration AS done (operator, act, name, secret_id, reason)
    VALUES (operator, 'SECRET_ADD', application, add_secret.secret_id, reason);
    outcome := 'ADDED';
END
$$;

-- Ends a secret now or at a later time, which a later call can only bring nearer. Returns ENDED, with that time; EARLIER,
-- with the time that it ends or ended at anyhow; or NO_SECRET; or LAST, unless that is wanted: nobody could log in any more.
CREATE FUNCTION portal.end_secret(
    secret uuid, in_seconds bigint, even_last boolean, operator text, reason text, OUT outcome text, OUT ends_at timestamptz
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    client text;
    application text;
    known timestamptz;
    wanted timestamptz := now() + greatest(in_seconds, 0) * interval '1 second';
BEGIN
    SELECT a.client_id, a.name INTO client, application
    FROM portal.client_secrets AS s JOIN portal.applications AS a ON a.client_id = s.client_id
    WHERE s.id = secret FOR UPDATE OF a;
    IF NOT FOUND THEN
        outcome := 'NO_SECRET';
        RETURN;
    END IF;
    SELECT s.retired_at INTO known FROM portal.client_secrets AS s WHERE s.id = secret;
    IF known <= wanted THEN
        outcome := 'EARLIER';
        ends_at := known;
        RETURN;
    END IF;
    IF NOT even_last AND NOT EXISTS (
        SELECT FROM portal.client_secrets AS s
        WHERE s.client_id = client AND s.id <> secret AND (s.retired_at IS NULL OR s.retired_at > wanted)
    ) THEN
        outcome := 'LAST';
        RETURN;
    END IF;
    UPDATE portal.client_secrets AS s SET retired_at = wanted WHERE s.id = secret;
    INSERT INTO portal.administration AS done (operator, act, name, secret_id, ends_at, reason)
    VALUES (operator, 'SECRET_END', application, secret, wanted, reason);
    outcome := 'ENDED';
    ends_at := wanted;
END
$$;

-- The Operator's people log in as finid_portal_admin, or as a role of their own that is a member of it. It reads, and does
-- what these functions do: no change without its line.
REVOKE ALL ON FUNCTION portal.change_state, portal.add_secret, portal.end_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION portal.change_state, portal.add_secret, portal.end_secret TO finid_portal_admin;
GRANT USAGE ON SCHEMA portal TO finid_portal_admin;
GRANT SELECT ON portal.participants, portal.applications, portal.administration TO finid_portal_admin;
GRANT SELECT (id, client_id, created_at, retired_at) ON portal.client_secrets TO finid_portal_admin;
DO $$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO finid_portal_admin', current_database());
END
$$;
