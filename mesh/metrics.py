"""The catalogue of metrics: every instrument there is, with the closed list of each label's values.

docs/telemetry.md lists them, dashboards and alert rules are made of them; tests compare all three with this page.
Business figures are counted where the change of state has been committed. Names end with their unit.
"""

from typing import Final

from mesh.instruments import Configured, Counter, Gauge, Histogram, Instrument, Methods

SERVICES: Final = ("auth_gateway", "liveness", "facematch", "otp", "registry", "documents", "ca", "signer", "portal")
_WITH_WORKERS: Final = ("liveness", "facematch", "documents")
_WITH_SQL: Final = tuple(service for service in SERVICES if service != "facematch")
_WITH_HSM: Final = ("ca", "signer")

# grpc.StatusCode, by name.
_CODES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
METHODS: Final = Methods()
PROVIDERS: Final = Configured()
"""SMS providers, by their names in the operator's file; otp tells them at its start."""

# Up to the longest deadline of a call on the page; the goals of docs/sre.md are bounds of buckets.
_RPC_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SQL_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_HSM_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)
_BATCH_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SCORE: Final = tuple(round(0.05 * step, 2) for step in range(1, 21))

_PURPOSES: Final = ("IDENTIFY", "ISSUE", "REISSUE", "REVOKE", "SUSPEND", "RESUME", "SIGN")
_VERDICTS: Final = ("SUCCESS", "FAILURE")
# auth_gateway's FailureReason; NONE with SUCCESS.
_REASONS: Final = (
    *("NONE", "IDENTITY_NOT_CONFIRMED", "LIVENESS_FAILED", "CODE_FAILED", "OPERATION_REFUSED"),
    *("OPERATION_INTERRUPTED", "NUMBER_NOT_MATCHED", "CONSENT_WITHDRAWN"),
)

SERVING: Final = Gauge(
    "finid_serving",
    "Whether all that the service needs answers, and it takes calls: 1, or 0; 0 also before it has looked and from "
    "the begin of its drain on",
    SERVICES,
    service=SERVICES,
)

RPC_SERVER_DURATION: Final = Histogram(
    "finid_rpc_server_duration_seconds",
    "How long calls took that the service answered, by gRPC status; of a stream, how long it was open",
    SERVICES,
    _RPC_S,
    service=SERVICES,
    method=METHODS,
    code=_CODES,
)
RPC_SERVER_IN_FLIGHT: Final = Gauge(
    "finid_rpc_server_in_flight", "Calls that the service works on now", SERVICES, service=SERVICES
)
RPC_CLIENT_DURATION: Final = Histogram(
    "finid_rpc_client_duration_seconds",
    "How long calls of other services took, by gRPC status; streams are measured where they are answered",
    ("auth_gateway",),
    _RPC_S,
    service=SERVICES,
    peer=SERVICES,
    method=METHODS,
    code=_CODES,
)

OWN_CERTIFICATE_ENDS: Final = Gauge(
    "finid_own_certificate_ends_seconds",
    "Time until a certificate of the service itself ends, negative after it: mtls, and those of the authority",
    SERVICES,
    service=SERVICES,
    certificate=("mtls", "issuing", "ocsp", "tsa"),
)

POOLS: Final = ("frames", "faces", "documents")
"""Pools of sandboxed workers: liveness's, facematch's, documents'."""
WORKER_QUEUE_LENGTH: Final = Gauge(
    "finid_worker_queue_length", "Calls that wait for a worker", _WITH_WORKERS, service=SERVICES, pool=POOLS
)
WORKER_BUSY: Final = Gauge(
    "finid_worker_busy", "Workers that work on a call", _WITH_WORKERS, service=SERVICES, pool=POOLS
)
WORKER_COUNT: Final = Gauge(
    "finid_worker_count",
    "Workers that are ready for calls or busy with one",
    _WITH_WORKERS,
    service=SERVICES,
    pool=POOLS,
)
WORKER_BATCH_DURATION: Final = Histogram(
    "finid_worker_batch_duration_seconds",
    "How long a call took in a worker, without its wait in the queue",
    _WITH_WORKERS,
    _BATCH_S,
    service=SERVICES,
    pool=POOLS,
)
WORKER_CRASHES: Final = Counter(
    "finid_worker_crashes_total",
    "Workers that died, took too long, answered nonsense or did not start, and were replaced",
    _WITH_WORKERS,
    service=SERVICES,
    pool=POOLS,
)

SQL_POOL_SIZE: Final = Gauge(
    "finid_sql_pool_size", "Most connections that the service may have to its database", _WITH_SQL, service=SERVICES
)
SQL_POOL_IN_USE: Final = Gauge(
    "finid_sql_pool_in_use", "Connections that statements or transactions run on now", _WITH_SQL, service=SERVICES
)
SQL_DURATION: Final = Histogram(
    "finid_sql_duration_seconds",
    "How long statements took, with the wait for a connection outside transactions",
    _WITH_SQL,
    _SQL_S,
    service=SERVICES,
)

AUTHENTICATIONS_FINISHED: Final = Counter(
    "finid_authentications_finished_total",
    "Authentications with a verdict; the reason is NONE with SUCCESS",
    ("auth_gateway",),
    purpose=_PURPOSES,
    verdict=_VERDICTS,
    reason=_REASONS,
)
AUTHENTICATIONS_STARTED: Final = Counter(
    "finid_authentications_started_total", "Authentications that were created", ("auth_gateway",), purpose=_PURPOSES
)
AUTHENTICATIONS_ABANDONED: Final = Counter(
    "finid_authentications_abandoned_total",
    "Authentications without a verdict, because nobody went on with them or somebody cancelled them",
    ("auth_gateway",),
    state=("EXPIRED", "CANCELLED"),
)
JOURNAL_WRITE_ERRORS: Final = Counter(
    "finid_journal_write_errors_total", "Calls that the journal of requests does not have", ("auth_gateway",)
)
RATE_LIMITED: Final = Counter(
    "finid_rate_limited_total",
    "Calls refused because an application asks more often than it may; quota: starts of a day, stream: open at once",
    ("auth_gateway",),
    kind=("read", "step", "create", "document", "quota", "stream"),
)
WEBHOOK_DELIVERIES: Final = Counter(
    "finid_webhook_deliveries_total",
    "Attempts to tell an application of a change: taken, to be tried again, given up",
    ("auth_gateway",),
    outcome=("delivered", "failed", "given_up"),
)
WEBHOOK_OLDEST_PENDING: Final = Gauge(
    "finid_webhook_oldest_pending_seconds",
    "Age of the oldest change that its application has not been told of; 0 when there is none",
    ("auth_gateway",),
)

LIVENESS_ATTEMPTS: Final = Counter(
    "finid_liveness_attempts_total",
    "Attempts that ended: PASSED, or why not; what exactly failed is for operators alone",
    ("liveness",),
    outcome=(
        *("PASSED", "TIMEOUT", "WRONG_GESTURE", "PASSIVE", "FLASH_NOT_FOLLOWED", "FLASH_BACKGROUND_TOO"),
        *("FLASH_TOO_BRIGHT", "FLASH_TOO_FEW"),
    ),
)
LIVENESS_PASSIVE_SCORE: Final = Histogram(
    "finid_liveness_passive_score",
    "Passive score of attempts that were judged by it, from 0 (an attack) to 1",
    ("liveness",),
    _SCORE,
)

FACEMATCH_COMPARISONS: Final = Counter(
    "finid_facematch_comparisons_total",
    "Comparisons by how they ended: MATCH, or the reason of the refusal",
    ("facematch",),
    outcome=(
        *("MATCH", "FACE_MISMATCH", "QUALITY_TOO_LOW", "PHOTO_NOT_OPENED", "UNREADABLE_IMAGE", "IMAGE_TOO_LARGE"),
        *("IMAGE_TOO_SMALL", "NO_FACE", "SEVERAL_FACES", "FACE_TOO_SMALL", "PROBE_REPEATED", "POLICY_UNKNOWN"),
    ),
)
FACEMATCH_REFERENCE_LOOKUPS: Final = Counter(
    "finid_facematch_reference_lookups_total",
    "Look-ups of a reference photo's embedding",
    ("facematch",),
    result=("hit", "miss"),
)

CODES_SENT: Final = Counter(
    "finid_codes_sent_total",
    "Codes by what became of them: SENT (a provider took it), FAILED (none did), UNKNOWN (its answer was lost), "
    "DROPPED (too late to be sent); then what the provider reports of those sent; provider other: none took it",
    ("otp",),
    provider=PROVIDERS,
    outcome=("SENT", "FAILED", "UNKNOWN", "DROPPED", "DELIVERED", "UNDELIVERED"),
)
CODES_CHECKED: Final = Counter(
    "finid_codes_checked_total",
    "Codes that came back: right (the first time), or why not",
    ("otp",),
    outcome=("right", "wrong", "expired", "too_many", "unknown"),
)

SIGNATURES: Final = Counter(
    "finid_signatures_total",
    "Signed documents by format: made; refused for what was handed in; failed for no reason of the document's",
    ("documents",),
    format=("CADES_DETACHED", "CADES_ATTACHED", "PADES", "XADES_DETACHED", "XADES_ENVELOPED"),
    outcome=("made", "refused", "failed"),
)

CERTIFICATES_ISSUED: Final = Counter("finid_certificates_issued_total", "Certificates issued", ("ca",))
CERTIFICATES_EXPIRING: Final = Gauge(
    "finid_certificates_expiring",
    "Certificates in force that end within so many days",
    ("ca",),
    within_days=("1", "7", "30"),
)
CRL_AGE: Final = Gauge("finid_crl_age_seconds", "Time since the revocation list served was made", ("ca",))
CRL_NEXT_UPDATE: Final = Gauge(
    "finid_crl_next_update_seconds", "Time until the revocation list served ends; negative after it", ("ca",)
)
OCSP_RESPONSES: Final = Counter(
    "finid_ocsp_responses_total",
    "Status answered, by certificate asked about; malformed, unauthorized: requests that got no status",
    ("ca",),
    status=("good", "revoked", "unknown", "malformed", "unauthorized"),
)
TIME_STAMPS: Final = Counter(
    "finid_time_stamps_total",
    "Time stamps: granted; rejected, for what was asked; no_time, because the clock is not vouched for",
    ("ca",),
    outcome=("granted", "rejected", "no_time"),
)

HSM_OPERATIONS: Final = (
    *("open", "probe", "find", "generate", "public_key", "sign", "mac", "random"),
    *("generate_wrapped", "sign_with_wrapped", "rewrap", "destroy"),
)
HSM_OPERATION_DURATION: Final = Histogram(
    "finid_hsm_operation_duration_seconds",
    "How long the token took for an operation, without the wait for its turn",
    _WITH_HSM,
    _HSM_S,
    operation=HSM_OPERATIONS,
)
HSM_ERRORS: Final = Counter(
    "finid_hsm_errors_total", "Operations that the token did not do", _WITH_HSM, operation=HSM_OPERATIONS
)
KEY_UNWRAPS: Final = Counter(
    "finid_key_unwraps_total", "Subject keys that this process asked its token to unwrap", ("signer",)
)
SIGNING_INTENTS: Final = Counter(
    "finid_signing_intents_total",
    "Reasons to unwrap a key, and what became of them: INTENT and NEW_KEY (its own request is signed) are reasons for "
    "one unwrapping each; RECORDED and ABORTED are how intents end",
    ("signer",),
    state=("INTENT", "NEW_KEY", "RECORDED", "ABORTED"),
)
KEY_UNWRAPS_UNEXPLAINED: Final = Gauge(
    "finid_key_unwraps_unexplained",
    "By how much the token's count of unwrappings differs from the reasons there were; anything but 0 is the alarm",
    ("signer",),
)

CATALOGUE: Final = {item.name: item for item in tuple(globals().values()) if isinstance(item, Instrument)}
"""Every instrument by its name in Prometheus."""
