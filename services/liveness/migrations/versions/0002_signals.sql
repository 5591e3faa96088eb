-- The passive signals' scores by name, millionths; for the receipt, and for operators of attempts that failed.
ALTER TABLE liveness.sessions ADD COLUMN signals jsonb;
GRANT UPDATE (signals) ON liveness.sessions TO finid_liveness;
