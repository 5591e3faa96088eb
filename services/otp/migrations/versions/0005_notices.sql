-- A notice without an answer is sent again after a while; each SMS counts towards its phone's limit.
-- RECORDED: handed to a provider since sent_at, unless its process died just before; no answer is known.
ALTER TABLE otp.notices ADD COLUMN asked smallint NOT NULL DEFAULT 1 CHECK (asked > 0);
COMMENT ON COLUMN otp.notices.asked IS 'how many SMS of it providers took or may have taken, the last one included';

GRANT UPDATE (asked) ON otp.notices TO finid_otp;
