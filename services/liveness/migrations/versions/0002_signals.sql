-- The passive signals' scores by name, millionths; for the receipt, and for operators of attempts that failed.
ALTER TABLE liveness.sessions ADD COLUMN signals jsonb;
GRANT UPDATE (signals) ON liveness.sessions TO finid_liveness;
-- Components of the keyframe's quality by name, 0 to 100; for the receipt.
ALTER TABLE liveness.keyframes ADD COLUMN quality jsonb NOT NULL
    DEFAULT '{"pose": 0, "eyes": 0, "sharpness": 0, "light": 0, "contrast": 0, "size": 0}';
