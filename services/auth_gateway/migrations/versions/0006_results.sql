ALTER TABLE auth_gateway.authentication
    -- begun on another device than the hosted page's
    ADD COLUMN cross_device boolean NOT NULL DEFAULT false,
    -- the number shown there is still to be entered on the page
    ADD COLUMN number_due boolean NOT NULL DEFAULT false,
    -- its application is told of state changes
    ADD COLUMN notifies boolean NOT NULL DEFAULT false;
GRANT UPDATE (number_due) ON auth_gateway.authentication TO finid_auth_gateway;

-- What is to be told of state changes: written by the statement that changes the state, so that none is lost or made up.
CREATE TABLE auth_gateway.webhook (
    -- no state is entered twice, so this names the event
    authentication text NOT NULL REFERENCES auth_gateway.authentication (name) ON DELETE CASCADE,
    state text NOT NULL,
    application text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    delivery text NOT NULL DEFAULT 'PENDING' CHECK (delivery IN ('PENDING', 'DELIVERED', 'GIVEN_UP')),
    -- due from then on; while it is being sent, when that is taken for dead
    next_attempt_at timestamptz NOT NULL DEFAULT '-infinity',
    -- ever, which also names the lease; and since it was last asked for
    attempts integer NOT NULL DEFAULT 0,
    tries integer NOT NULL DEFAULT 0,
    -- when the first of those tries was
    tried_from timestamptz,
    attempted_at timestamptz,
    -- of the last attempt: the answer's status, 0 for none, and what stood in its way
    status_code integer NOT NULL DEFAULT 0,
    problem text NOT NULL DEFAULT '',
    delivered_at timestamptz,
    PRIMARY KEY (authentication, state)
);
CREATE INDEX webhook_due ON auth_gateway.webhook (next_attempt_at) WHERE delivery = 'PENDING';
CREATE INDEX webhook_of_application ON auth_gateway.webhook (application, changed_at DESC, authentication DESC, state DESC);

GRANT SELECT, INSERT, DELETE ON auth_gateway.webhook TO finid_auth_gateway;
GRANT UPDATE (delivery, next_attempt_at, attempts, tries, tried_from, attempted_at, status_code, problem, delivered_at)
    ON auth_gateway.webhook TO finid_auth_gateway;
