-- A keyed digest of the signer's IIN. What was prepared before, or by a replica of the version before, has none and is
-- listed by application only, as is what a certificate without an IIN signed.
ALTER TABLE documents.preparations ADD COLUMN person bytea CHECK (octet_length(person) = 32);
ALTER TABLE documents.signed ADD COLUMN person bytea CHECK (octet_length(person) = 32);
CREATE INDEX signed_of_person ON documents.signed (person, created_at DESC, document DESC) WHERE person IS NOT NULL;
CREATE INDEX signed_of_person_for_application ON documents.signed (person, application, created_at DESC, document DESC)
WHERE person IS NOT NULL;
GRANT UPDATE (person) ON documents.preparations TO finid_documents;
