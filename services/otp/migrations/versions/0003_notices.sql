-- What notices tell of. Each kind counts towards a limit of its own, so that none keeps a warning from being sent.
ALTER TABLE otp.notices
    ADD COLUMN kind text NOT NULL DEFAULT 'WARNING' CHECK (kind IN ('WARNING', 'SIGNED', 'EXPIRY'));
COMMENT ON COLUMN otp.notices.txn IS 'the transaction; of EXPIRY a digest that names the certificate and the limit';
DROP INDEX otp.notices_of_phone;
CREATE INDEX notices_of_phone ON otp.notices (phone_hmac, kind, sent_at);
