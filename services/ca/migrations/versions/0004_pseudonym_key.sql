-- The names of the field keys under which every subject_hmac stands, the oldest first, spaces between (mesh.pseudonyms): a
-- service with other keys does not start. One row, made by the first service that starts, moved by services.ca.rekey.
CREATE TABLE ca.pseudonym_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kid text NOT NULL
);
GRANT SELECT, INSERT (kid) ON ca.pseudonym_key TO finid_ca;
