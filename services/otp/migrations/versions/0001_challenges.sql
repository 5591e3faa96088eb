-- One row for each transaction: its live code. A new code takes the place of the earlier one.
CREATE TABLE otp.challenges (
    txn bytea PRIMARY KEY CHECK (octet_length(txn) = 32),
    challenge text NOT NULL,
    code_hmac bytea NOT NULL CHECK (octet_length(code_hmac) = 32),
    phone_commitment bytea NOT NULL CHECK (octet_length(phone_commitment) = 32),
    text_sha256 bytea NOT NULL CHECK (octet_length(text_sha256) = 32),
    policy text NOT NULL,
    -- RECORDED: the provider was not asked yet, or never answered. SENT, FAILED: what it answered.
    delivery text NOT NULL DEFAULT 'RECORDED' CHECK (delivery IN ('RECORDED', 'SENT', 'FAILED')),
    provider text NOT NULL,
    provider_reference text NOT NULL DEFAULT '',
    sends smallint NOT NULL DEFAULT 1 CHECK (sends > 0),
    checks smallint NOT NULL DEFAULT 0 CHECK (checks >= 0),
    -- When the code was recorded, which is just before it was sent.
    sent_at timestamptz NOT NULL,
    resend_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    verified_at timestamptz,
    -- SMS_OTP, given again when the same right code comes again.
    receipt text,
    CHECK ((verified_at IS NULL) = (receipt IS NULL))
);

-- When a phone was written to lately, whatever the transaction.
CREATE TABLE otp.phones (
    phone_hmac bytea PRIMARY KEY CHECK (octet_length(phone_hmac) = 32),
    sent_at timestamptz[] NOT NULL
);

GRANT SELECT, INSERT ON otp.challenges, otp.phones TO finid_otp;
GRANT UPDATE (
    challenge, code_hmac, phone_commitment, text_sha256, delivery, provider, provider_reference, sends, checks, sent_at,
    resend_at, expires_at, verified_at, receipt
) ON otp.challenges TO finid_otp;
GRANT UPDATE (sent_at) ON otp.phones TO finid_otp;
