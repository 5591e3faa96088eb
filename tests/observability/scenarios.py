"""What the alerts are tried on: a healthy mesh, minute by minute, and what goes wrong in it.

Values are in promtool's notation, one a minute: 0+60x500 is a counter that grows by 60 each minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.observability.causes import JOBS, SERVICES
from deploy.observability.rules import Alert

MINUTES = 220


def counts(per_minute: float, until: int = MINUTES) -> str:
    """A counter that grows so fast, for ever."""
    return f"0+{per_minute:g}x{until}"


def counts_from(minute: int, before: float, after: float) -> str:
    """A counter that grows by `before` a minute, and from `minute` on by `after`."""
    reached = before * minute
    return f"0+{before:g}x{minute} {reached + after:g}+{after:g}x{MINUTES - minute}"


def stays(value: float) -> str:
    """A gauge that does not move."""
    return f"{value:g}x{MINUTES}"


def appears(minute: int, value: float = 1) -> str:
    """A counter that nobody counted with before."""
    return f"_x{minute} {value:g}x{MINUTES - minute}"


def rpc(service: str, method: str, code: str = "OK", part: str = "count") -> str:
    """A series of the calls that a service answered."""
    more = ',le="2.5"' if part == "bucket" else ""
    return f'finid_rpc_server_duration_seconds_{part}{{service="{service}",method="{method}",code="{code}"{more}}}'


def target(job: str, metric: str, more: str = "") -> str:
    """A series of one process."""
    return f'{metric}{{job="{job}",instance="10.0.0.1:9464"{more}}}'


def behind_envoy(cluster: str, code_class: int) -> str:
    """What Envoy was answered by who stands behind it, or answered itself in their place (5)."""
    labels = f',envoy_cluster_name="{cluster}",envoy_response_code_class="{code_class}"'
    return target("finid-envoy", "envoy_cluster_upstream_rq_xx", labels)


def edge_certificate(name: str, of: str = "cluster") -> str:
    """When one of Envoy's certificates ends, in Unix time; these trials begin in 1970."""
    metric = f"envoy_{of}_ssl_certificate_expiration_unix_time_seconds"
    return target("finid-envoy", metric, f',envoy_tls_certificate="{name}"')


FRAMES = "CaptureService/SubmitFrames"
SIGNER = "finid-signer"


def certificate(name: str, service: str = "ca") -> str:
    """When a certificate of a service's own ends."""
    return target(
        f"finid-{service}", "finid_own_certificate_ends_seconds", f',service="{service}",certificate="{name}"'
    )


def serving(service: str, instance: str = "10.0.0.1:9464") -> str:
    """Whether a replica of a service serves."""
    job = f"finid-{service.replace('_', '-')}"
    return f'finid_serving{{job="{job}",instance="{instance}",service="{service}"}}'


def _healthy() -> dict[str, str]:
    series = {
        rpc("auth_gateway", FRAMES): counts(600),
        rpc("auth_gateway", FRAMES, part="bucket"): counts(599),
        rpc("auth_gateway", "FinIdService/GetAuthentication"): counts(600),
        rpc("auth_gateway", "FinIdService/GetAuthentication", "RESOURCE_EXHAUSTED"): counts(1),
        rpc("auth_gateway", "FinIdService/GetAuthentication", "PERMISSION_DENIED"): counts(1),
        rpc("auth_gateway", "PkiService/Ocsp"): counts(600),
        rpc("ca", "CaService/StampDigest"): counts(60),
        rpc("signer", "SignerService/SignDigests"): counts(60),
        rpc("signer", "SignerService/SignDigests", "FAILED_PRECONDITION"): counts(1),
        'finid_rpc_client_duration_seconds_count{service="auth_gateway",peer="signer",code="OK"}': counts(60),
        'finid_rpc_client_duration_seconds_count{service="auth_gateway",peer="otp",code="UNAVAILABLE"}': counts(0.01),
        'finid_authentications_started_total{purpose="SIGN"}': counts(60),
        'finid_authentications_finished_total{purpose="SIGN",verdict="SUCCESS",reason="NONE"}': counts(50),
        'finid_authentications_finished_total{purpose="SIGN",verdict="FAILURE",reason="LIVENESS_FAILED"}': counts(5),
        'finid_signatures_total{format="PADES",outcome="made"}': counts(60),
        'finid_signatures_total{format="PADES",outcome="refused"}': counts(2),
        'finid_codes_sent_total{provider="kcell",outcome="SENT"}': counts(60),
        'finid_codes_sent_total{provider="other",outcome="FAILED"}': counts(0.1),
        'finid_codes_checked_total{outcome="right"}': counts(50),
        'finid_codes_checked_total{outcome="wrong"}': counts(5),
        'finid_liveness_attempts_total{outcome="PASSED"}': counts(50),
        'finid_liveness_attempts_total{outcome="PASSIVE"}': counts(10),
        'finid_facematch_comparisons_total{outcome="MATCH"}': counts(50),
        'finid_facematch_comparisons_total{outcome="FACE_MISMATCH"}': counts(5),
        **passive_scores(low=counts(2), high=counts(60)),
        'finid_worker_queue_length{service="liveness",pool="frames"}': stays(2),
        'finid_worker_count{service="liveness",pool="frames"}': stays(4),
        'finid_worker_crashes_total{service="liveness",pool="frames"}': stays(1),
        target(SIGNER, "finid_sql_pool_in_use", ',service="signer"'): stays(3),
        target(SIGNER, "finid_sql_pool_size", ',service="signer"'): stays(8),
        **durations("finid_sql_duration_seconds", 'service="signer"', fast=counts(600), slow=counts(1)),
        "finid_journal_write_errors_total": stays(0),
        'finid_webhook_deliveries_total{outcome="delivered"}': counts(60),
        "finid_webhook_oldest_pending_seconds": stays(86_400),  # one participant's server has been away for a day
        'finid_rate_limited_total{kind="read"}': counts(1),
        target(SIGNER, "finid_hsm_errors_total", ',operation="sign"'): stays(1),
        target(SIGNER, "finid_hsm_operation_duration_seconds_count", ',operation="sign"'): counts(60),
        **durations(
            "finid_hsm_operation_duration_seconds",
            f'job="{SIGNER}",instance="10.0.0.1:9464",operation="sign_with_wrapped"',
            fast=counts(600),
            slow=counts(1),
        ),
        "finid_crl_age_seconds": stays(6 * 3600 + 30),
        "finid_crl_next_update_seconds": stays(18 * 3600 - 30),
        target(SIGNER, "finid_key_unwraps_total"): counts(60),
        target(SIGNER, "finid_key_unwraps_unexplained"): stays(0),
        target(SIGNER, "finid_signing_intents_total", ',state="INTENT"'): "3+50x220",
        target(SIGNER, "finid_signing_intents_total", ',state="NEW_KEY"'): counts(10),
        target(SIGNER, "finid_signing_intents_total", ',state="RECORDED"'): counts(50),
        target(SIGNER, "finid_signing_intents_total", ',state="ABORTED"'): counts(0.05),
        certificate("mtls", "signer"): stays(31 * 86_400),
        certificate("ocsp"): stays(60 * 86_400),
        certificate("issuing"): stays(1000 * 86_400),
        behind_envoy("auth_gateway", 2): counts(600),
        behind_envoy("auth_gateway", 5): counts(0.1),
        behind_envoy("portal", 2): counts(60),
        edge_certificate("web", "listener"): stays(31 * 86_400),
        edge_certificate("mesh"): stays(31 * 86_400),
        edge_certificate("mesh-roots"): stays(3000 * 86_400),
        'finid_codes_sent_total{provider="kcell",outcome="DELIVERED"}': counts(55),
        'finid_codes_sent_total{provider="kcell",outcome="UNDELIVERED"}': counts(2),
    }
    for job in JOBS:
        series[target(job, "up")] = stays(1)
        series[target(job, "process_start_time_seconds")] = stays(-3600)
    for service in SERVICES:
        series[serving(service)] = stays(1)
    return series


def durations(metric: str, labels: str, *, fast: str, slow: str) -> dict[str, str]:
    """A histogram of what took 10 ms at most (`fast`) and of what took between 0.5 and 1 s (`slow`)."""
    both = _sum(fast, slow)
    return {
        f'{metric}_bucket{{{labels},le="0.01"}}': fast,
        f'{metric}_bucket{{{labels},le="0.5"}}': fast,
        f'{metric}_bucket{{{labels},le="1.0"}}': both,
        f'{metric}_bucket{{{labels},le="+Inf"}}': both,
    }


def passive_scores(*, low: str, high: str) -> dict[str, str]:
    """A histogram of scores around 0.5 and around 0.95."""
    metric, both = "finid_liveness_passive_score", _sum(low, high)
    return {
        f'{metric}_bucket{{le="0.45"}}': stays(0),
        f'{metric}_bucket{{le="0.55"}}': low,
        f'{metric}_bucket{{le="0.9"}}': low,
        f'{metric}_bucket{{le="1.0"}}': both,
        f'{metric}_bucket{{le="+Inf"}}': both,
        f"{metric}_count": both,
    }


def _sum(*plain: str) -> str:
    """The sum of counters in the notation of `counts_from` or `counts`, with the same turning points."""
    parts = [[_numbers(piece) for piece in one.split(" ")] for one in plain]
    return " ".join(
        f"{sum(piece[0] for piece in pieces):g}+{sum(piece[1] for piece in pieces):g}x{pieces[0][2]:g}"
        for pieces in zip(*parts, strict=True)
    )


def _numbers(piece: str) -> tuple[float, float, float]:
    start, _, rest = piece.partition("+")
    step, _, times = rest.partition("x")
    return float(start), float(step), float(times)


HEALTHY: Mapping[str, str] = _healthy()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is other than in the healthy mesh (None: not there), and which alerts fire at a minute; no others do.

    `alerts` has for each alert its severity and the labels of what it fires on.
    """

    changes: Mapping[str, str | None]
    minute: int
    alerts: Mapping[tuple[str, str], tuple[Mapping[str, str], ...]] = field(default_factory=dict)

    def series(self) -> dict[str, str]:
        """Return all series."""
        return {name: values for name, values in ({**HEALTHY, **self.changes}).items() if values is not None}

    def as_test(self, name: str, alerts: list[Alert]) -> dict[str, Any]:
        """Return it as promtool's unit test, of every alert there is."""
        return {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": key, "values": values} for key, values in self.series().items()],
            "alert_rule_test": [
                {
                    "eval_time": f"{self.minute}m",
                    "alertname": alertname,
                    "exp_alerts": [
                        expected(alert, labels)
                        for alert in alerts
                        if alert.name == alertname
                        for labels in self.alerts.get((alert.name, alert.severity.value), ())
                    ],
                }
                for alertname in sorted({alert.name for alert in alerts})
            ],
        }


def expected(alert: Alert, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return how promtool has to see an alert: with its own labels, and the summary filled in."""
    rule = alert.as_rule()
    annotations = dict(rule["annotations"])
    for name, value in labels.items():
        annotations["summary"] = annotations["summary"].replace(f"{{{{ $labels.{name} }}}}", value)
    return {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": annotations}


def _down(job: str) -> dict[str, str | None]:
    return {target(job, "up"): f"1x20 0x{MINUTES}"}


_SLO_BURN = 100
PAGE, TICKET = "page", "ticket"
INSTANCE = {"instance": "10.0.0.1:9464"}


def _burning(slo: str, alert: str) -> dict[tuple[str, str], tuple[Mapping[str, str], ...]]:
    """What fires when everything of an objective burns for hours: its page, its ticket, and the spent budget."""
    labels = ({"slo": slo},)
    return {(alert, PAGE): labels, (alert, TICKET): labels, ("FinIdErrorBudgetSpent", TICKET): labels}


_WELL: Mapping[str, Scenario] = {
    "all is well": Scenario({}, 200),
    "all is well at the start": Scenario({}, 12),
    "nobody asks for anything": Scenario(
        {
            name: None
            for name in HEALTHY
            if not name.startswith(
                (
                    "up",
                    "process_",
                    "finid_sql_pool",
                    "finid_worker_c",
                    "finid_crl",
                    "finid_own",
                    "finid_serving",
                    "envoy_",
                )
            )
            and "webhook_oldest" not in name
            and "Ocsp" not in name
        }
        | {
            "finid_webhook_oldest_pending_seconds": stays(0),
            target(SIGNER, "finid_key_unwraps_total"): stays(0),
        },
        100,
    ),
}
_OBJECTIVES: Mapping[str, Scenario] = {
    "a hundredth of requests fails": Scenario(
        {rpc("auth_gateway", "FinIdService/GetAuthentication", "INTERNAL"): counts(36)},
        _SLO_BURN,
        _burning("requests", "FinIdRequestsFail"),
    ),
    "a three-hundredth of requests fails": Scenario(
        {rpc("auth_gateway", "FinIdService/GetAuthentication", "INTERNAL"): counts(6)},
        _SLO_BURN,
        {key: value for key, value in _burning("requests", "FinIdRequestsFail").items() if key[1] == TICKET},
    ),
    "one request of few fails at night": Scenario(
        {
            rpc("auth_gateway", FRAMES): None,
            rpc("auth_gateway", FRAMES, part="bucket"): None,
            rpc("auth_gateway", "PkiService/Ocsp"): counts(0.01),
            rpc("auth_gateway", "FinIdService/GetAuthentication"): counts(0.01),
            rpc("auth_gateway", "FinIdService/GetAuthentication", "INTERNAL"): "0x95 1x100",
            rpc("auth_gateway", "FinIdService/GetAuthentication", "RESOURCE_EXHAUSTED"): None,
            rpc("auth_gateway", "FinIdService/GetAuthentication", "PERMISSION_DENIED"): None,
        },
        _SLO_BURN,
    ),
    "requests failed, and it is over": Scenario(
        {rpc("auth_gateway", "FinIdService/GetAuthentication", "INTERNAL"): "0+60x40 2400x200"},
        _SLO_BURN,
        {
            ("FinIdErrorBudgetSpent", TICKET): ({"slo": "requests"},),
            ("FinIdRequestsFail", TICKET): ({"slo": "requests"},),
        },
    ),
    "half of the steps take seconds": Scenario(
        {rpc("auth_gateway", FRAMES, part="bucket"): counts(300)}, _SLO_BURN, _burning("steps", "FinIdStepsSlow")
    ),
    "completions are interrupted": Scenario(
        {
            'finid_authentications_finished_total{purpose="SIGN",verdict="FAILURE",reason="OPERATION_INTERRUPTED"}': (
                counts(25)
            )
        },
        _SLO_BURN,
        _burning("completions", "FinIdCompletionsFail"),
    ),
    "signatures fail": Scenario(
        {'finid_signatures_total{format="PADES",outcome="failed"}': counts(5)},
        _SLO_BURN,
        _burning("signatures", "FinIdSignaturesFail"),
    ),
    "no provider takes codes": Scenario(
        {'finid_codes_sent_total{provider="other",outcome="FAILED"}': counts(30)},
        _SLO_BURN,
        _burning("codes", "FinIdCodesNotSent"),
    ),
    "OCSP fails": Scenario(
        {rpc("auth_gateway", "PkiService/Ocsp", "UNAVAILABLE"): counts(12)},
        _SLO_BURN,
        _burning("certificate-status", "FinIdCertificateStatusFails")
        | {("FinIdRequestsFail", TICKET): ({"slo": "requests"},)}
        | {("FinIdRequestsFail", PAGE): ({"slo": "requests"},)}
        | {("FinIdErrorBudgetSpent", TICKET): ({"slo": "certificate-status"}, {"slo": "requests"})},
    ),
    "the clock is not vouched for": Scenario(
        {rpc("ca", "CaService/StampDigest", "UNAVAILABLE"): counts(5)},
        _SLO_BURN,
        _burning("time-stamps", "FinIdTimeStampsFail"),
    ),
}
_SECURITY: Mapping[str, Scenario] = {
    "a key is unwrapped without an intent": Scenario(
        {target(SIGNER, "finid_key_unwraps_total"): counts_from(100, 60, 61)},
        110,
        {("FinIdKeyUnwrapWithoutIntent", PAGE): ({"job": SIGNER} | INSTANCE,)},
    ),
    "a key is unwrapped where no intent ever was": Scenario(
        {
            target(SIGNER, "finid_key_unwraps_total"): "0x50 1x200",
            **{
                target(SIGNER, "finid_signing_intents_total", f',state="{state}"'): None
                for state in ("INTENT", "NEW_KEY", "RECORDED", "ABORTED")
            },
        },
        60,
        {("FinIdKeyUnwrapWithoutIntent", PAGE): ({"job": SIGNER} | INSTANCE,)},
    ),
    "the signer itself finds unwraps that differ": Scenario(
        {target(SIGNER, "finid_key_unwraps_unexplained"): "0x50 1x200"},
        60,
        {("FinIdKeyUnwrapWithoutIntent", PAGE): ({"job": SIGNER} | INSTANCE,)},
    ),
    "the signer refuses a bundle for the first time": Scenario(
        {rpc("signer", "SignerService/SignDigests", "PERMISSION_DENIED"): appears(50)},
        52,
        {("FinIdPreconditionRefused", PAGE): ({"service": "signer", "method": "SignerService/SignDigests"},)},
    ),
    "the registry refuses a bundle again": Scenario(
        {rpc("registry", "RegistryService/Release", "PERMISSION_DENIED"): "1x100 2x200"},
        103,
        {("FinIdPreconditionRefused", PAGE): ({"service": "registry", "method": "RegistryService/Release"},)},
    ),
    "a refusal is long over": Scenario(
        {rpc("registry", "RegistryService/Release", "PERMISSION_DENIED"): "1x100 2x200"}, 130
    ),
    "passive scores fall": Scenario(
        passive_scores(low=counts_from(90, 2, 100), high=counts_from(90, 60, 20)),
        170,
        {("FinIdPassiveScoresFall", TICKET): ({},)},
    ),
    "passive scores of three people fall": Scenario(
        passive_scores(low=counts_from(90, 0.01, 0.05), high=counts_from(90, 0.1, 0.01)), 170
    ),
    "liveness refuses most": Scenario(
        {
            'finid_liveness_attempts_total{outcome="PASSED"}': counts_from(90, 50, 10),
            'finid_liveness_attempts_total{outcome="PASSIVE"}': counts_from(90, 10, 50),
        },
        185,
        {("FinIdLivenessRefusesMore", TICKET): ({},)},
    ),
    "faces do not match": Scenario(
        {
            'finid_facematch_comparisons_total{outcome="MATCH"}': counts_from(90, 50, 10),
            'finid_facematch_comparisons_total{outcome="FACE_MISMATCH"}': counts_from(90, 5, 45),
        },
        185,
        {("FinIdFaceMatchRefusesMore", TICKET): ({},)},
    ),
}
_PROCESSES: Mapping[str, Scenario] = {
    "the signer is down": Scenario(_down(SIGNER), 30, {("FinIdServiceDown", PAGE): ({"job": SIGNER},)}),
    "Envoy is down": Scenario(_down("finid-envoy"), 30, {("FinIdServiceDown", PAGE): ({"job": "finid-envoy"},)}),
    "Prometheus knows no target of the CA": Scenario(
        {target("finid-ca", "up"): None}, 30, {("FinIdServiceDown", PAGE): ({"job": "finid-ca"},)}
    ),
    "the signer was away for a minute": Scenario({target(SIGNER, "up"): f"1x20 0 1x{MINUTES}"}, 22),
    "one of two replicas is down": Scenario(
        {'up{job="finid-otp",instance="10.0.0.2:9464"}': f"1x20 0x{MINUTES}"},
        40,
        {("FinIdReplicaDown", TICKET): ({"job": "finid-otp", "instance": "10.0.0.2:9464"},)},
    ),
    "PostgreSQL is away": Scenario(
        {serving(service): f"1x20 0x{MINUTES}" for service in SERVICES if service != "facematch"},
        23,
        {("FinIdNotServing", PAGE): tuple({"service": service} for service in SERVICES if service != "facematch")},
    ),
    "both replicas have lost their token": Scenario(
        {serving("signer"): f"1x20 0x{MINUTES}", serving("signer", "10.0.0.2:9464"): f"1x25 0x{MINUTES}"},
        29,
        {("FinIdNotServing", PAGE): ({"service": "signer"},)},
    ),
    "PostgreSQL failed over within a minute": Scenario(
        {serving(service): f"1x20 0 1x{MINUTES}" for service in SERVICES if service != "facematch"}, 22
    ),
    "one of two replicas has lost its token": Scenario(
        {serving("signer", "10.0.0.2:9464"): f"1x20 0x{MINUTES}"},
        40,
        {("FinIdReplicaDown", TICKET): ({"job": SIGNER, "instance": "10.0.0.2:9464", "service": "signer"},)},
    ),
    "a rollout": Scenario(
        {
            # One drains and is gone as its successor begins; then the other.
            serving("otp"): "1x20 0 _x200",
            serving("otp", "10.0.0.2:9464"): "1x22 0 _x200",
            serving("otp", "10.0.0.3:9464"): f"_x20 0 1x{MINUTES}",
            serving("otp", "10.0.0.4:9464"): f"_x22 0 1x{MINUTES}",
        },
        24,
    ),
    "a service of one replica is rolled out": Scenario(
        {serving("otp"): "1x20 0 _x200", serving("otp", "10.0.0.3:9464"): f"_x21 0 1x{MINUTES}"}, 23
    ),
    "documents is started again and again": Scenario(
        {target("finid-documents", "process_start_time_seconds"): "0x100 6000x5 6300x5 6600x5 6900x5 7200x200"},
        140,
        {("FinIdServiceRestarts", TICKET): ({"job": "finid-documents"} | INSTANCE,)},
    ),
    "nobody reports when the revocation list ends": Scenario(
        {"finid_crl_next_update_seconds": None},
        30,
        {("FinIdMetricMissing", TICKET): ({"metric": "finid_crl_next_update_seconds"},)},
    ),
    "a mesh certificate was not renewed": Scenario(
        {certificate("mtls", "signer"): stays(3 * 86_400 - 1)},
        30,
        {("FinIdMeshCertificateEnds", PAGE): ({"service": "signer"},)},
    ),
}
_EDGE: Mapping[str, Scenario] = {
    "Envoy does not reach the gateway": Scenario(
        {
            behind_envoy("auth_gateway", 2): counts_from(20, 600, 0),
            behind_envoy("auth_gateway", 5): counts_from(20, 0, 600),
        },
        26,
        {("FinIdEdgeFails", PAGE): ({"envoy_cluster_name": "auth_gateway"},)},
    ),
    "every tenth access token is refused by Envoy": Scenario(
        {behind_envoy("portal", 5): counts_from(20, 0, 6)},
        30,
        {("FinIdEdgeFails", PAGE): ({"envoy_cluster_name": "portal"},)},
    ),
    "one call of few does not reach the gateway at night": Scenario(
        {behind_envoy("auth_gateway", 2): counts(0.5), behind_envoy("auth_gateway", 5): "0x20 1x200"}, 23
    ),
    "what the world sees was not renewed": Scenario(
        {edge_certificate("web", "listener"): stays(14 * 86_400)},
        30,
        {("FinIdEdgeCertificateEnds", TICKET): ({"envoy_tls_certificate": "web"},)},
    ),
    "Envoy's certificate in the mesh ends in two days": Scenario(
        {edge_certificate("mesh"): stays(2 * 86_400)},
        30,
        {
            ("FinIdEdgeCertificateEnds", TICKET): ({"envoy_tls_certificate": "mesh"},),
            ("FinIdEdgeCertificateEnds", PAGE): ({"envoy_tls_certificate": "mesh"},),
        },
    ),
}
_PARTS: Mapping[str, Scenario] = {
    "a tenth of the calls to the signer fails": Scenario(
        {'finid_rpc_client_duration_seconds_count{service="auth_gateway",peer="signer",code="UNAVAILABLE"}': counts(6)},
        60,
        {("FinIdSpokeFails", TICKET): ({"peer": "signer"},)},
    ),
    "frames wait for workers": Scenario(
        {'finid_worker_queue_length{service="liveness",pool="frames"}': f"2x20 20x{MINUTES}"},
        30,
        {("FinIdWorkersBusy", PAGE): ({"service": "liveness", "pool": "frames"},)},
    ),
    "a short queue": Scenario({'finid_worker_queue_length{service="liveness",pool="frames"}': "2x20 20x3 2x200"}, 27),
    "workers die": Scenario(
        {'finid_worker_crashes_total{service="liveness",pool="frames"}': "1x60 3x5 6x5 8x200"},
        75,
        {("FinIdWorkerCrashes", TICKET): ({"service": "liveness", "pool": "frames"},)},
    ),
    "all connections are in use": Scenario(
        {target(SIGNER, "finid_sql_pool_in_use", ',service="signer"'): f"3x20 8x{MINUTES}"},
        30,
        {("FinIdSqlPoolFull", PAGE): ({"job": SIGNER, "service": "signer"} | INSTANCE,)},
    ),
    "the database is slow": Scenario(
        durations("finid_sql_duration_seconds", 'service="signer"', fast=counts(600), slow=counts(60)),
        60,
        {("FinIdSqlSlow", TICKET): ({"service": "signer"},)},
    ),
    "the journal misses a request": Scenario(
        {"finid_journal_write_errors_total": "0x50 1x200"}, 55, {("FinIdJournalNotWritten", TICKET): ({},)}
    ),
    "no webhook is delivered": Scenario(
        {
            'finid_webhook_deliveries_total{outcome="delivered"}': counts_from(60, 60, 0),
            'finid_webhook_deliveries_total{outcome="failed"}': counts_from(60, 0, 60),
        },
        90,
        {("FinIdWebhooksStand", TICKET): ({},)},
    ),
    "a participant polls in a loop": Scenario(
        {'finid_rate_limited_total{kind="read"}': counts_from(20, 1, 600)},
        60,
        {("FinIdRateLimited", TICKET): ({"kind": "read"},)},
    ),
}
_KEYS: Mapping[str, Scenario] = {
    "the token fails": Scenario(
        {target(SIGNER, "finid_hsm_errors_total", ',operation="sign"'): counts_from(20, 0, 60)},
        30,
        {("FinIdHsmFails", PAGE): ({"job": SIGNER},)},
    ),
    "the token is slow": Scenario(
        durations(
            "finid_hsm_operation_duration_seconds",
            f'job="{SIGNER}",instance="10.0.0.1:9464",operation="sign_with_wrapped"',
            fast=counts(600),
            slow=counts(60),
        ),
        60,
        {("FinIdHsmSlow", TICKET): ({"job": SIGNER, "operation": "sign_with_wrapped"},)},
    ),
    "the revocation list is not renewed": Scenario(
        {
            "finid_crl_age_seconds": f"{6 * 3600}+60x{MINUTES}",
            "finid_crl_next_update_seconds": f"{18 * 3600}-60x{MINUTES}",
        },
        100,
        {("FinIdCrlStale", TICKET): ({},)},
    ),
    "the revocation list ends soon": Scenario(
        {
            "finid_crl_age_seconds": f"{15 * 3600}+60x{MINUTES}",
            "finid_crl_next_update_seconds": f"{9 * 3600}-60x{MINUTES}",
        },
        100,
        {("FinIdCrlStale", TICKET): ({},), ("FinIdCrlStale", PAGE): ({},)},
    ),
    "the OCSP responder's certificate was not renewed": Scenario(
        {certificate("ocsp"): stays(13 * 86_400)},
        30,
        {("FinIdAuthorityCertificateEnds", TICKET): ({"certificate": "ocsp"},)},
    ),
    "the issuing certificate could be outlived": Scenario(
        {certificate("issuing"): stays(500 * 86_400)},
        30,
        {("FinIdAuthorityCertificateEnds", TICKET): ({"certificate": "issuing"},)},
    ),
    "intents are left behind": Scenario(
        {target(SIGNER, "finid_signing_intents_total", ',state="ABORTED"'): counts_from(60, 0, 5)},
        130,
        {("FinIdIntentsAborted", TICKET): ({},)},
    ),
}
_PEOPLE: Mapping[str, Scenario] = {
    "nothing finishes": Scenario(
        {
            'finid_authentications_finished_total{purpose="SIGN",verdict="SUCCESS",reason="NONE"}': (
                counts_from(60, 50, 0)
            ),
            'finid_authentications_finished_total{purpose="SIGN",verdict="FAILURE",reason="LIVENESS_FAILED"}': (
                counts_from(60, 5, 0)
            ),
        },
        100,
        {("FinIdNothingFinishes", PAGE): ({},)},
    ),
    "codes are not entered": Scenario(
        {'finid_codes_checked_total{outcome="right"}': counts_from(60, 50, 5)},
        140,
        {("FinIdCodesNotEntered", PAGE): ({},)},
    ),
    "no code at all is entered": Scenario(
        {'finid_codes_checked_total{outcome="right"}': None}, 140, {("FinIdCodesNotEntered", PAGE): ({},)}
    ),
    "a provider's answers are lost": Scenario(
        {
            'finid_codes_sent_total{provider="smsc_kz",outcome="SENT"}': counts(2),
            'finid_codes_sent_total{provider="smsc_kz",outcome="UNKNOWN"}': counts_from(20, 0, 0.5),
        },
        60,
        {("FinIdSmsProviderFails", TICKET): ({"provider": "smsc_kz"},)},
    ),
    "a provider takes codes and does not deliver them": Scenario(
        {'finid_codes_sent_total{provider="kcell",outcome="UNDELIVERED"}': counts_from(20, 2, 20)},
        60,
        {("FinIdSmsProviderFails", TICKET): ({"provider": "kcell"},)},
    ),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """Scenarios that are tried with some groups of rules, each evaluated once in `every`."""

    groups: tuple[str, ...]
    every: str
    scenarios: Mapping[str, Scenario]


_CAUSES = ("finid-security", "finid-processes", "finid-edge", "finid-parts", "finid-keys", "finid-people")
_BURNS = ("finid-objectives", "finid-burn-rates", "finid-error-budgets")
# Each with its own group only: all rules for all scenarios take a minute and a half of processor time.
TRIALS: Mapping[str, Trial] = {
    "healthy": Trial((*_BURNS, *_CAUSES), "10m", _WELL),
    "objectives": Trial(_BURNS, "10m", _OBJECTIVES),
    "security": Trial(("finid-security",), "2m", _SECURITY),
    "processes": Trial(("finid-processes",), "1m", _PROCESSES),
    "edge": Trial(("finid-edge",), "1m", _EDGE),
    "parts": Trial(("finid-parts",), "1m", _PARTS),
    "keys": Trial(("finid-keys",), "1m", _KEYS),
    "people": Trial(("finid-people",), "1m", _PEOPLE),
}
SCENARIOS: Mapping[str, Scenario] = {
    name: scenario for trial in TRIALS.values() for name, scenario in trial.scenarios.items()
}
