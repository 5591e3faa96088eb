-- The keyed hash of the reference photo that the person's face was compared with; empty for keys of before it was kept.
ALTER TABLE signer.credentials
    ADD COLUMN photo_hmac bytea NOT NULL DEFAULT '' CHECK (octet_length(photo_hmac) IN (0, 32));
ALTER TABLE signer.credentials ALTER COLUMN photo_hmac DROP DEFAULT;
