-- By the KEK that opens a wrapped key: generation and label, as its envelope says (mesh/hsm/wrapped.py). To rotate takes
-- the next keys under an old KEK from here, and asks here whether one is left, in time that does not grow with the rest.
CREATE INDEX credentials_of_kek ON signer.credentials (substr(wrapped_key, 6, 14), credential) WHERE state <> 'DESTROYED';
