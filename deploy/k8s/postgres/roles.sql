-- Roles, schemas and grants of one FinID database; safe to run again. CloudNativePG runs it as the superuser when the
-- cluster is made; on a database that somebody else runs: psql -v ON_ERROR_STOP=1 -d finid -f roles.sql, as a role that
-- may make roles, and then \password for each. It does what deploy/local/database.py does (tests/k8s/test_roles.py).
DO $roles$
DECLARE
    room text;
    role text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'finid_owner') THEN
        CREATE ROLE finid_owner LOGIN;
    END IF;
    -- Whom the portal's people log in as; its migrations say what it may.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'finid_portal_admin') THEN
        CREATE ROLE finid_portal_admin LOGIN;
    END IF;
    IF NOT pg_has_role(current_user, 'finid_owner', 'SET') THEN
        EXECUTE format('GRANT finid_owner TO %I', current_user);
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO finid_owner', current_database());
    FOREACH room IN ARRAY ARRAY['auth_gateway', 'liveness', 'otp', 'registry', 'documents', 'ca', 'signer', 'portal']
    LOOP
        role := 'finid_' || room;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
        EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION finid_owner', room);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', room, role);
    END LOOP;
END
$roles$;
