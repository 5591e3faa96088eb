-- The names of the keys under which every subject_hmac, phone_hmac and photo_hmac stands, the oldest first, spaces between (mesh.pseudonyms): a
-- service with other keys does not start. One row, made by the first service that starts, moved by services.signer.rekey.
CREATE TABLE signer.pseudonym_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kid text NOT NULL
);
GRANT SELECT, INSERT (kid) ON signer.pseudonym_key TO finid_signer;
