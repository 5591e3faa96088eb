-- One row for each signature act: its documents are prepared, then, once, assembled.
-- Objects, titles and certificates are sealed under a content key of the row's own; the room's key seals only that.
-- Without the content key all of them are noise, so forgetting a preparation is setting its key to NULL.
CREATE TABLE documents.preparations (
    preparation text PRIMARY KEY CHECK (preparation ~ '^[a-z2-7]{26}$'),
    application text NOT NULL,
    request_id text NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    signature text NOT NULL UNIQUE,
    signing_time timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    sealed_content_key bytea,
    -- The signer's, then those above it.
    sealed_certificates bytea[] NOT NULL CHECK (cardinality(sealed_certificates) > 0),
    -- SHA-256 over the signatures it was assembled from.
    assembled_from_sha256 bytea CHECK (octet_length(assembled_from_sha256) = 32),
    assembled_at timestamptz,
    UNIQUE (application, request_id),
    CHECK ((assembled_at IS NULL) = (assembled_from_sha256 IS NULL)),
    CHECK (assembled_at IS NULL OR sealed_content_key IS NOT NULL)
);
CREATE INDEX preparations_waiting ON documents.preparations (created_at)
WHERE assembled_at IS NULL AND sealed_content_key IS NOT NULL;

-- The documents of a preparation, in the order of the request.
CREATE TABLE documents.prepared (
    document text PRIMARY KEY CHECK (document ~ '^[a-z2-7]{26}$'),
    preparation text NOT NULL REFERENCES documents.preparations,
    position smallint NOT NULL CHECK (position >= 0),
    sealed_title bytea NOT NULL,
    format text NOT NULL CHECK (format IN ('CADES_DETACHED', 'PADES')),
    content_bytes integer NOT NULL CHECK (content_bytes > 0),
    content_sha256 bytea NOT NULL CHECK (octet_length(content_sha256) = 32),
    digest_sha256 bytea NOT NULL CHECK (octet_length(digest_sha256) = 32),
    -- PADES: where in the object the signature goes.
    place_start integer,
    place_end integer,
    object text NOT NULL UNIQUE,
    UNIQUE (preparation, position),
    CHECK ((format = 'PADES') = (place_start IS NOT NULL)),
    CHECK ((place_start IS NULL) = (place_end IS NULL)),
    CHECK (content_bytes < place_start AND place_start < place_end)
);

CREATE TABLE documents.signed (
    document text PRIMARY KEY REFERENCES documents.prepared,
    application text NOT NULL,
    created_at timestamptz NOT NULL,
    object text NOT NULL UNIQUE,
    size_bytes integer NOT NULL CHECK (size_bytes > 0),
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32)
);
CREATE INDEX signed_of_application ON documents.signed (application, created_at DESC, document DESC);

GRANT SELECT, INSERT ON documents.preparations, documents.prepared, documents.signed TO finid_documents;
GRANT UPDATE (sealed_content_key, assembled_from_sha256, assembled_at) ON documents.preparations TO finid_documents;
