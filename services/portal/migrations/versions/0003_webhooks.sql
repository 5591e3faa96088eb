-- Where an application is told of state changes; '' for nowhere.
ALTER TABLE portal.applications
    ADD COLUMN webhook_uri text NOT NULL DEFAULT ''
        CHECK (webhook_uri = '' OR (webhook_uri ~ '^https://[!-~]+$' AND octet_length(webhook_uri) <= 2048));
