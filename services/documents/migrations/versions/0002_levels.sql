-- What was prepared before was all at level B-T, and so is what a replica of the version before still prepares.
ALTER TABLE documents.prepared ADD COLUMN level text NOT NULL DEFAULT 'B_T'
    CHECK (level IN ('B_B', 'B_T', 'B_LT', 'B_LTA'));
ALTER TABLE documents.prepared DROP CONSTRAINT prepared_format_check;
ALTER TABLE documents.prepared ADD CONSTRAINT prepared_format_check
    CHECK (format IN ('CADES_DETACHED', 'CADES_ATTACHED', 'PADES', 'XADES_DETACHED', 'XADES_ENVELOPED'));
