-- For services.liveness.reseal, which runs under the service's own role.
GRANT UPDATE (sealed) ON liveness.fingerprints TO finid_liveness;
