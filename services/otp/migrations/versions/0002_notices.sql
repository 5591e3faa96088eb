-- Notices to a phone that confirms nothing, at most one for each transaction.
CREATE TABLE otp.notices (
    txn bytea PRIMARY KEY CHECK (octet_length(txn) = 32),
    phone_hmac bytea NOT NULL CHECK (octet_length(phone_hmac) = 32),
    text_sha256 bytea NOT NULL CHECK (octet_length(text_sha256) = 32),
    -- RECORDED: the provider was not asked yet, or never answered. SENT, FAILED: what it answered.
    delivery text NOT NULL DEFAULT 'RECORDED' CHECK (delivery IN ('RECORDED', 'SENT', 'FAILED')),
    provider text NOT NULL,
    provider_reference text NOT NULL DEFAULT '',
    sent_at timestamptz NOT NULL
);
CREATE INDEX notices_of_phone ON otp.notices (phone_hmac, sent_at);

GRANT SELECT, INSERT ON otp.notices TO finid_otp;
GRANT UPDATE (phone_hmac, text_sha256, delivery, provider, provider_reference, sent_at) ON otp.notices TO finid_otp;
