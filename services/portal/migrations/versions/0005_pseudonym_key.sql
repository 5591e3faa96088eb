-- The names of the keys under which every secret_hmac stands, the oldest first, spaces between (mesh.pseudonyms): a portal
-- with other keys does not start. One row, made by the first portal that starts, moved by services.portal.rekey.
CREATE TABLE portal.pseudonym_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kid text NOT NULL
);
GRANT SELECT, INSERT (kid) ON portal.pseudonym_key TO finid_portal;
GRANT SELECT ON portal.pseudonym_key TO finid_portal_admin;
