-- When the face of an attempt that passed was found to be another's: it counts against the person as one that failed does.
ALTER TABLE liveness.sessions ADD COLUMN rejected_at timestamptz CHECK (rejected_at IS NULL OR state = 'PASSED');
GRANT UPDATE (rejected_at) ON liveness.sessions TO finid_liveness;
