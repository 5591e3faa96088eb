-- Outcome and correlations (millionths); NULL when no colours were shown, or none were judged.
ALTER TABLE liveness.sessions ADD COLUMN flash jsonb;
GRANT UPDATE (flash) ON liveness.sessions TO finid_liveness;
-- The keyframe of the colours: a later frame may take the place of an earlier one.
GRANT UPDATE (sealed, quality) ON liveness.keyframes TO finid_liveness;
