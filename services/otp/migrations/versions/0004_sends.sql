-- Each SMS of a code, from its record to what became of it. Taking it erases its phone and text.
CREATE TABLE otp.sends (
    challenge text PRIMARY KEY,
    txn bytea NOT NULL CHECK (octet_length(txn) = 32),
    application text NOT NULL,
    -- Country and operator of the phone, no more of it.
    prefix text NOT NULL CHECK (length(prefix) <= 6),
    segments smallint NOT NULL CHECK (segments > 0),
    state text NOT NULL DEFAULT 'RECORDED' CHECK (
        state IN ('RECORDED', 'SENDING', 'SENT', 'FAILED', 'UNKNOWN', 'DELIVERED', 'UNDELIVERED', 'DROPPED')
    ),
    -- Phone and text under the room's own key, only while nobody has taken them.
    sealed bytea,
    lease_ends_at timestamptz,
    provider text NOT NULL DEFAULT '',
    provider_reference text NOT NULL DEFAULT '',
    recorded_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CHECK ((state = 'RECORDED') = (sealed IS NOT NULL)),
    CHECK ((state = 'SENDING') = (lease_ends_at IS NOT NULL))
);
CREATE INDEX sends_open ON otp.sends (recorded_at) WHERE state IN ('RECORDED', 'SENDING');
CREATE INDEX sends_of_txn ON otp.sends (txn);
CREATE INDEX sends_lately ON otp.sends (recorded_at);
CREATE INDEX sends_by_reference ON otp.sends (provider, provider_reference) WHERE provider_reference <> '';

-- They stand with each send now.
ALTER TABLE otp.challenges DROP COLUMN delivery, DROP COLUMN provider, DROP COLUMN provider_reference;
-- Which of the room's keys the code's hash is under; '' for those from before keys had names.
ALTER TABLE otp.challenges ADD COLUMN key_id text NOT NULL DEFAULT '';
-- Keyed hashes of the codes that were checked: the same one again is no further guess.
ALTER TABLE otp.challenges ADD COLUMN tried bytea[] NOT NULL DEFAULT '{}';

-- Phones are not all that is counted: persons and addresses are, too.
ALTER TABLE otp.phones RENAME TO subjects;
ALTER TABLE otp.subjects RENAME COLUMN phone_hmac TO subject_hmac;
ALTER INDEX otp.phones_pkey RENAME TO subjects_pkey;

-- How many codes an application had sent within an hour of the clock.
CREATE TABLE otp.application_hours (
    application text NOT NULL,
    starts_at timestamptz NOT NULL,
    sends integer NOT NULL,
    PRIMARY KEY (application, starts_at)
);

-- Where codes are sent but hardly ever entered, sending stops for a while.
CREATE TABLE otp.pauses (
    application text NOT NULL,
    prefix text NOT NULL,
    ends_at timestamptz NOT NULL,
    sends integer NOT NULL,
    verified integer NOT NULL,
    PRIMARY KEY (application, prefix)
);

GRANT SELECT, INSERT ON otp.sends, otp.application_hours, otp.pauses TO finid_otp;
GRANT UPDATE (state, sealed, lease_ends_at, provider, provider_reference, changed_at) ON otp.sends TO finid_otp;
GRANT UPDATE (key_id, tried) ON otp.challenges TO finid_otp;
GRANT UPDATE (sends) ON otp.application_hours TO finid_otp;
GRANT DELETE ON otp.application_hours TO finid_otp;
GRANT UPDATE (ends_at, sends, verified) ON otp.pauses TO finid_otp;
