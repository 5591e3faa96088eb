-- The sandbox's people. A person is found by a keyed hash of the IIN; everything else is sealed, each value for its
-- own row and column (AES-256-GCM), so that a sealed value moved elsewhere does not open.
CREATE TABLE registry.people (
    iin_hmac bytea PRIMARY KEY CHECK (octet_length(iin_hmac) = 32),
    family_name bytea NOT NULL,
    given_name bytea NOT NULL,
    patronymic bytea NOT NULL,
    family_name_latin bytea NOT NULL,
    given_name_latin bytea NOT NULL,
    birth_date bytea NOT NULL,
    document_kind bytea NOT NULL,
    document_number bytea NOT NULL,
    document_issue_date bytea NOT NULL,
    document_expiry_date bytea NOT NULL,
    -- Both empty for a person without a trusted phone.
    phone bytea NOT NULL,
    phone_since bytea NOT NULL,
    photo_jpeg bytea NOT NULL
);

-- What was released, once for each transaction.
CREATE TABLE registry.releases (
    txn bytea PRIMARY KEY CHECK (octet_length(txn) = 32),
    request_id text NOT NULL,
    purpose text NOT NULL,
    released_at timestamptz NOT NULL,
    -- Until then a repeat gets the same answer; then it is forgotten, and that it was given stays.
    expires_at timestamptz NOT NULL,
    sealed_answer bytea
);
CREATE INDEX releases_to_forget ON registry.releases (expires_at) WHERE sealed_answer IS NOT NULL;

-- When an IIN, known or not, was asked about lately.
CREATE TABLE registry.inquiries (
    iin_hmac bytea PRIMARY KEY CHECK (octet_length(iin_hmac) = 32),
    asked_at timestamptz[] NOT NULL
);

GRANT SELECT ON registry.people TO finid_registry;
GRANT SELECT, INSERT ON registry.releases, registry.inquiries TO finid_registry;
GRANT UPDATE (sealed_answer) ON registry.releases TO finid_registry;
GRANT UPDATE (asked_at) ON registry.inquiries TO finid_registry;
