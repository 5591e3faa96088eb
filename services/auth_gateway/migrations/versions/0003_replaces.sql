-- What a certificate replaces stays in force until its own key is activated. Those that wait from before this column have
-- replaced theirs already, here and at the CA.
ALTER TABLE auth_gateway.certificate
    -- the credential whose certificate it replaces; '' for none
    ADD COLUMN replaces text NOT NULL DEFAULT '';
ALTER TABLE auth_gateway.certificate ALTER COLUMN replaces DROP DEFAULT;
