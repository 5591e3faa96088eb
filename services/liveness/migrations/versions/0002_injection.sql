-- What the client says of its camera (the kind of its label, never the label), and what was counted when the attempt ended.
ALTER TABLE liveness.sessions ADD COLUMN declared jsonb NOT NULL DEFAULT '{}', ADD COLUMN injection jsonb;
GRANT UPDATE (injection) ON liveness.sessions TO finid_liveness;
