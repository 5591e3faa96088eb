-- Lists, newest first: a keyset for each way to filter.
CREATE FUNCTION auth_gateway.purpose_of(transaction bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN convert_from(transaction, 'UTF8')::jsonb ->> 'purpose';
END
$$;
ALTER TABLE auth_gateway.authentication
    ADD COLUMN purpose text NOT NULL GENERATED ALWAYS AS (auth_gateway.purpose_of(transaction)) STORED,
    -- counts what is told as the ETag
    ADD COLUMN version bigint NOT NULL DEFAULT 1;
CREATE INDEX authentication_of_application ON auth_gateway.authentication (application, created_at DESC, name DESC);
CREATE INDEX authentication_of_application_by_state
    ON auth_gateway.authentication (application, state, created_at DESC, name DESC);
CREATE INDEX authentication_of_application_by_purpose
    ON auth_gateway.authentication (application, purpose, created_at DESC, name DESC);

ALTER TABLE auth_gateway.operation
    -- the collection of its name: certificateOrders, certificateChanges, signatures
    ADD COLUMN kind text NOT NULL GENERATED ALWAYS AS (split_part(name, '/', 1)) STORED;
CREATE INDEX operation_of_application ON auth_gateway.operation (application, kind, created_at DESC, name DESC);

ALTER TABLE auth_gateway.certificate
    -- the application that it was got through; '' for those older than this column, which stand in no list
    ADD COLUMN application text NOT NULL DEFAULT '',
    -- the same, sealed for this name: who edits the table gives no application another's
    ADD COLUMN owner bytea;
CREATE INDEX certificate_of_application ON auth_gateway.certificate (application, created_at DESC, name DESC);

-- A version for every statement that moves an authentication, whichever it is, so that none can forget it.
CREATE FUNCTION auth_gateway.next_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;
CREATE TRIGGER authentication_version BEFORE UPDATE ON auth_gateway.authentication FOR EACH ROW
    WHEN ((OLD.state, OLD.liveness_session, OLD.challenge)
        IS DISTINCT FROM (NEW.state, NEW.liveness_session, NEW.challenge))
    EXECUTE FUNCTION auth_gateway.next_version();

-- A request_id is kept for a day. The room's role can forget what is older, whatever time it says that it is, and nothing
-- else: what a create call made is not made again.
CREATE INDEX request_by_age ON auth_gateway.request (created_at);
CREATE FUNCTION auth_gateway.forget_requests(at timestamptz, at_most integer) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    WITH old AS (
        SELECT application, method, request_id FROM auth_gateway.request
        WHERE created_at < least(at, now()) - interval '24 hours' LIMIT at_most
    ), gone AS (
        DELETE FROM auth_gateway.request USING old
        WHERE request.application = old.application AND request.method = old.method
            AND request.request_id = old.request_id
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;
REVOKE ALL ON FUNCTION auth_gateway.forget_requests FROM PUBLIC;
GRANT EXECUTE ON FUNCTION auth_gateway.forget_requests TO finid_auth_gateway;

-- Token buckets that all replicas draw from. Not logged: a crash of the server fills them again, which harms nobody.
CREATE UNLOGGED TABLE auth_gateway.bucket (
    application text NOT NULL,
    -- which limit: read, step, create, …
    kind text NOT NULL,
    tokens double precision NOT NULL,
    filled_at timestamptz NOT NULL,
    -- how many the last draw got
    drawn integer NOT NULL,
    PRIMARY KEY (application, kind)
) WITH (fillfactor = 50);
GRANT SELECT, INSERT, UPDATE ON auth_gateway.bucket TO finid_auth_gateway;
