-- The names of the keys under which every subject stands, the oldest first, spaces between (mesh.pseudonyms): a gateway with
-- other keys does not start. One row, made by the first gateway that starts, moved by services.auth_gateway.rekey.
CREATE TABLE auth_gateway.pseudonym_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    kid text NOT NULL
);
GRANT SELECT, INSERT (kid) ON auth_gateway.pseudonym_key TO finid_auth_gateway;

-- The owner's role may move the subject of a withdrawn consent to a newer key. What says that it was withdrawn still stays,
-- and that is all of a consent that the gateway's role may write.
DROP TRIGGER withdrawn_once ON auth_gateway.consent;
CREATE TRIGGER withdrawn_once BEFORE UPDATE OF withdrawn_at, withdrawn_by, withdrawn_in ON auth_gateway.consent
    FOR EACH ROW WHEN (OLD.withdrawn_at IS NOT NULL) EXECUTE FUNCTION auth_gateway.consent_is_withdrawn_once();
