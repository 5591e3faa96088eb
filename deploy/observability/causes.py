"""Alerts on parts that do not work, and on what only somebody hostile does.

Numbers that say what is too much were chosen, not measured on a running service; where one follows from a limit in the
code, the comment names it. Every query is over what mesh/metrics.py lists, but for EXTERNAL.
"""

from typing import Final

from deploy.observability.objectives import OWN_FAULT
from deploy.observability.rules import Alert, Group, Kind, Severity, all_of, any_of

SERVICES: Final = ("auth_gateway", "liveness", "facematch", "otp", "registry", "documents", "ca", "signer", "portal")
JOBS: Final = tuple(f"finid-{name.replace('_', '-')}" for name in (*SERVICES, "envoy"))

EXTERNAL: Final = frozenset(
    {
        "up",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "envoy_cluster_upstream_rq_xx",
        "envoy_listener_ssl_certificate_expiration_unix_time_seconds",
        "envoy_cluster_ssl_certificate_expiration_unix_time_seconds",
    }
)
"""What is not FinID's own: of Prometheus, of its client library in each process, and of Envoy."""

NEVER_ABSENT: Final = (
    "finid_serving",
    "finid_rpc_server_duration_seconds_count",
    "finid_crl_next_update_seconds",
    "finid_key_unwraps_total",
    "finid_sql_pool_size",
    "finid_worker_count",
    "finid_webhook_oldest_pending_seconds",
)
"""What services report from their start on; an alert over a metric that nobody reports is silent for ever."""


def groups() -> list[Group]:
    """Return the groups of cause and security alerts."""
    return [
        Group("finid-security", "30s", _SECURITY),
        Group("finid-processes", "30s", _PROCESSES),
        Group("finid-edge", "30s", _EDGE),
        Group("finid-parts", "30s", _PARTS),
        Group("finid-keys", "30s", _KEYS),
        Group("finid-people", "1m", _PEOPLE),
    ]


def quantile(share: float, metric: str, window: str, by: str = "", matchers: str = "") -> str:
    """Return a quantile of a histogram over a window ("[5m]", "[1d] offset 1h"), by labels ("service, method")."""
    kept = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, sum by ({kept}) (rate({metric}_bucket{{{matchers}}}{window})))"


def _happened(counter: str, by: str, window: str) -> str:
    """Return what answers when something was counted within the window, be it the first time ever.

    A counter that nobody has counted with is not there; when it comes it is 1 already, and an increase sees nothing.
    """
    grouped = f"sum by ({by})" if by else "sum"
    return any_of(
        f"{grouped} (increase({counter}[{window}])) > 0", f"{grouped} ({counter} unless {counter} offset {window}) > 0"
    )


def _share(of: str, all_: str) -> str:
    return f"{of}\n/\n{all_}"


def _half_of_yesterday(metric: str, outcome: str) -> str:
    """Less than half as many succeed, of at least 50 within an hour, as did over the day before."""
    now = _share(f'sum(rate({metric}{{outcome="{outcome}"}}[1h]))', f"sum(rate({metric}[1h]))")
    before = _share(f'sum(rate({metric}{{outcome="{outcome}"}}[1d] offset 1h))', f"sum(rate({metric}[1d] offset 1h))")
    return all_of(f"({now})\n< 0.5 *\n({before})", f"sum(increase({metric}[1h])) >= 50")


def _edge_certificates_within(days: int) -> str:
    """Which of Envoy's certificates and roots end within so many days."""
    ends_at = any_of(
        "envoy_listener_ssl_certificate_expiration_unix_time_seconds",
        "envoy_cluster_ssl_certificate_expiration_unix_time_seconds",
    )
    return f"min by (envoy_tls_certificate) (\n{ends_at}\n) - time() < {days} * 86400"


_BEHIND: Final = 'envoy_cluster_name=~"auth_gateway|portal"'
_FAILED: Final = 'envoy_response_code_class="5"'

_SECURITY: Final = (
    Alert(
        name="FinIdKeyUnwrapWithoutIntent",
        severity=Severity.PAGE,
        kind=Kind.SECURITY,
        # The process's own comparison, and ours. Counters of one process, read in one scrape: no rate, so that not one
        # is lost or made up. A reason comes before its unwrap: a scrape in between sees more reasons, not more unwraps.
        query=any_of(
            "sum by (job, instance) (finid_key_unwraps_unexplained) != 0",
            "sum by (job, instance) (finid_key_unwraps_total) > (\n"
            '  sum by (job, instance) (finid_signing_intents_total{state=~"INTENT|NEW_KEY"})\n'
            "  or 0 * sum by (job, instance) (finid_key_unwraps_total)\n)",
        ),
        held_for="0s",
        summary="{{ $labels.instance }}: the token unwrapped subject keys for which no intent was stored",
        means="Somebody inside the signer's process may be using people's keys. Every signature since is suspect.",
        dashboard="finid-keys",
    ),
    Alert(
        name="FinIdPreconditionRefused",
        severity=Severity.PAGE,
        kind=Kind.SECURITY,
        # PERMISSION_DENIED from these is said of bundles, receipts and callers that are not what they claim to be
        # (docs/errors.md, "The precondition"); no honest part ever causes one.
        query=_happened(
            "finid_rpc_server_duration_seconds_count"
            '{service=~"signer|ca|registry|liveness|facematch",code="PERMISSION_DENIED"}',
            by="service, method",
            window="10m",
        ),
        held_for="0s",
        summary="{{ $labels.service }} refused {{ $labels.method }}: its caller is not what it claims to be",
        means="A part of the mesh is broken or hostile. Nothing was signed, issued or released, which is what the "
        "precondition is for; somebody may be trying.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdPassiveScoresFall",
        severity=Severity.TICKET,
        kind=Kind.SECURITY,
        # Against its own last day: what a score is worth depends on people and cameras, and was not measured.
        query=all_of(
            quantile(0.5, "finid_liveness_passive_score", "[1h]")
            + "\n< "
            + quantile(0.5, "finid_liveness_passive_score", "[1d] offset 1h")
            + " - 0.1",
            "sum(increase(finid_liveness_passive_score_count[1h])) >= 50",
        ),
        held_for="30m",
        summary="The median passive liveness score is 0.1 below that of the day before",
        means="Somebody shows pictures to the camera at scale, or honest people are about to be refused: another "
        "camera app, a new release, a model that does not fit.",
        dashboard="finid-biometrics",
    ),
    Alert(
        name="FinIdLivenessRefusesMore",
        severity=Severity.TICKET,
        kind=Kind.SECURITY,
        query=_half_of_yesterday("finid_liveness_attempts_total", "PASSED"),
        held_for="30m",
        summary="Less than half as many liveness attempts pass as did the day before",
        means="People cannot show that they are alive, or many attempts are attacks.",
        dashboard="finid-biometrics",
    ),
    Alert(
        name="FinIdFaceMatchRefusesMore",
        severity=Severity.TICKET,
        kind=Kind.SECURITY,
        query=_half_of_yesterday("finid_facematch_comparisons_total", "MATCH"),
        held_for="30m",
        summary="Less than half as many faces match their state photo as did the day before",
        means="People are told IDENTITY_NOT_CONFIRMED, or many try to be somebody else.",
        dashboard="finid-biometrics",
    ),
)

_PROCESSES: Final = (
    Alert(
        name="FinIdServiceDown",
        severity=Severity.PAGE,
        kind=Kind.CAUSE,
        # A job of which Prometheus knows no target at all has no `up` to be 0.
        query=any_of(
            'max by (job) (up{job=~"finid-.+"}) == 0',
            *(f'absent(up{{job="{job}"}})' for job in JOBS),
        ),
        held_for="2m",
        summary="No replica of {{ $labels.job }} answers",
        means="What the service does is not done at all; docs/runbooks/FinIdServiceDown.md has what that is for each.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdNotServing",
        severity=Severity.PAGE,
        kind=Kind.CAUSE,
        # It still answers Prometheus: `up` is 1. Nobody calls what is not ready: no objective burns.
        query="max by (service) (finid_serving) == 0",
        held_for="2m",
        summary="No replica of {{ $labels.service }} serves: each has lost something that it cannot work without",
        means="What the service does is not done at all; docs/runbooks/FinIdServiceDown.md has what that is for each.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdReplicaDown",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query=any_of(
            '(up{job=~"finid-.+"} == 0)\nand on (job)\n(max by (job) (up{job=~"finid-.+"}) == 1)',
            "(finid_serving == 0)\nand on (service)\n(max by (service) (finid_serving) == 1)",
        ),
        held_for="10m",
        summary="One replica of {{ $labels.job }} does not answer or does not serve: {{ $labels.instance }}",
        means="Nobody notices yet; one more and the service is down.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdServiceRestarts",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query='changes(process_start_time_seconds{job=~"finid-.+"}[1h]) > 3',
        held_for="0s",
        summary="{{ $labels.job }} was started again more than three times within an hour: {{ $labels.instance }}",
        means="Calls that run when it dies are lost and asked for again; each start costs seconds of capacity.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdMetricMissing",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query=any_of(*(f'label_replace(absent({name}), "metric", "{name}", "", "")' for name in NEVER_ABSENT)),
        held_for="10m",
        summary="Nobody reports {{ $labels.metric }}",
        means="The alerts over it cannot fire: FinID may be broken or attacked there, and nobody would hear.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdMeshCertificateEnds",
        severity=Severity.PAGE,
        kind=Kind.CAUSE,
        # cert-manager renews them 30 days before (deploy/k8s).
        query='min by (service) (finid_own_certificate_ends_seconds{certificate="mtls"}) < 3 * 86400',
        held_for="10m",
        summary="The mesh certificate of {{ $labels.service }} ends within three days and was not renewed",
        means="When it ends, the service can neither call nor be called: all that needs it stops at once.",
        dashboard="finid-services",
    ),
)

_EDGE: Final = (
    Alert(
        name="FinIdEdgeFails",
        severity=Severity.PAGE,
        kind=Kind.SYMPTOM,
        # What Envoy answers because nobody behind it did, be it gRPC or REST: what the gateway itself answers, errors
        # as well, is HTTP 200 to Envoy. The objectives count what the gateway has seen: none of these.
        query=all_of(
            _share(
                f"sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_xx{{{_BEHIND},{_FAILED}}}[5m]))",
                f"sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_xx{{{_BEHIND}}}[5m])) > 0.05",
            ),
            f"sum by (envoy_cluster_name) (increase(envoy_cluster_upstream_rq_xx{{{_BEHIND},{_FAILED}}}[5m])) >= 10",
        ),
        held_for="2m",
        summary="Envoy gets no answer of {{ $labels.envoy_cluster_name }} to more than 5 % of the calls",
        means="auth_gateway: banks and people are told SERVICE_UNAVAILABLE. portal: banks get no access tokens.",
        dashboard="finid-services",
    ),
    *(
        Alert(
            name="FinIdEdgeCertificateEnds",
            severity=severity,
            kind=Kind.CAUSE,
            # cert-manager renews both 30 days before (deploy/k8s).
            query=_edge_certificates_within(days),
            held_for="10m",
            summary=f"Envoy's certificate `{{{{ $labels.envoy_tls_certificate }}}}` ends within {days} days",
            means="web: when it ends, no browser and no bank connects any more. mesh, mesh-roots: Envoy reaches "
            "neither the gateway nor the portal.",
            dashboard="finid-services",
        )
        for severity, days in ((Severity.TICKET, 14), (Severity.PAGE, 3))
    ),
)

_PARTS: Final = (
    Alert(
        name="FinIdSpokeFails",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query=all_of(
            _share(
                f'sum by (peer) (rate(finid_rpc_client_duration_seconds_count{{code=~"{OWN_FAULT}"}}[10m]))',
                "sum by (peer) (rate(finid_rpc_client_duration_seconds_count[10m])) > 0.05",
            ),
            f'sum by (peer) (increase(finid_rpc_client_duration_seconds_count{{code=~"{OWN_FAULT}"}}[10m])) >= 5',
        ),
        held_for="5m",
        summary="More than 5 % of the calls to {{ $labels.peer }} fail",
        means="It tells where to look first when an objective is missed. Alone it means that retries still hide it.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdWorkersBusy",
        severity=Severity.PAGE,
        kind=Kind.CAUSE,
        # Half of FINID_LIVENESS_QUEUE_LIMIT (32): past all of it, people are told WORKERS_BUSY.
        query="max by (service, pool) (finid_worker_queue_length) > 16",
        held_for="5m",
        summary="Work of {{ $labels.service }} ({{ $labels.pool }}) waits for workers, more than half of what may",
        means="Camera steps and documents get slow, then are refused as WORKERS_BUSY.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdWorkerCrashes",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query="sum by (service, pool) (increase(finid_worker_crashes_total[30m])) > 3",
        held_for="0s",
        summary="Workers of {{ $labels.service }} ({{ $labels.pool }}) died more than three times in half an hour",
        means="Somebody's picture or document kills the process that reads it: a fault of a model or parser, or an "
        "attack on it. The sandbox holds; the person's step fails.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdSqlPoolFull",
        severity=Severity.PAGE,
        kind=Kind.CAUSE,
        query="finid_sql_pool_in_use >= on (job, instance, service) finid_sql_pool_size",
        held_for="5m",
        summary="All database connections of {{ $labels.service }} are in use, all the time: {{ $labels.instance }}",
        means="Calls wait up to 2 s for a connection and then fail as UNAVAILABLE.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdSqlSlow",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        # Statements end at 5 s by themselves (mesh/postgres.py).
        query=quantile(0.99, "finid_sql_duration_seconds", "[10m]", by="service") + " > 0.5",
        held_for="15m",
        summary="One statement in a hundred of {{ $labels.service }} takes longer than 0.5 s",
        means="Everything gets slower; at 5 s statements are broken off and calls fail.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdJournalNotWritten",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query=_happened("finid_journal_write_errors_total", by="", window="15m"),
        held_for="0s",
        summary="Requests of participants are missing from the journal",
        means="Participants do not see these requests in the portal, and they are not metered. The requests themselves "
        "were answered.",
        dashboard="finid-services",
    ),
    Alert(
        name="FinIdWebhooksStand",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        # One participant's dead server keeps its own oldest message waiting for up to three days; that nothing at all
        # is delivered while something waits is ours.
        query=all_of(
            "max(finid_webhook_oldest_pending_seconds) > 900",
            '(sum(increase(finid_webhook_deliveries_total{outcome="delivered"}[15m])) or vector(0)) == 0',
        ),
        held_for="5m",
        summary="Webhooks wait for more than 15 minutes, and none is delivered",
        means="Banks are not told when an authentication moves on. Those that poll do not notice.",
        dashboard="finid-people",
    ),
    Alert(
        name="FinIdRateLimited",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query="sum by (kind) (rate(finid_rate_limited_total[10m])) > 1",
        held_for="15m",
        summary="More than one call a second of kind {{ $labels.kind }} is refused as RATE_LIMITED",
        means="A participant polls in a loop or has outgrown its limit; its own calls fail, others' do not.",
        dashboard="finid-people",
    ),
)

_KEYS: Final = (
    Alert(
        name="FinIdHsmFails",
        severity=Severity.PAGE,
        kind=Kind.CAUSE,
        query=all_of(
            _share(
                "sum by (job) (rate(finid_hsm_errors_total[5m]))",
                "sum by (job) (rate(finid_hsm_operation_duration_seconds_count[5m])) > 0.02",
            ),
            "sum by (job) (increase(finid_hsm_errors_total[5m])) >= 3",
        ),
        held_for="2m",
        summary="The token of {{ $labels.job }} fails, in more than 2 % of its operations",
        means="finid-signer: people's signatures and keys are not made. finid-ca: no certificates, CRLs, OCSP, stamps.",
        dashboard="finid-keys",
    ),
    Alert(
        name="FinIdHsmSlow",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        # A call is given up after 10 s, and 64 may wait (mesh/hsm): at 0.5 s with two threads the queue is 16 s long.
        query=quantile(0.99, "finid_hsm_operation_duration_seconds", "[10m]", by="job, operation") + " > 0.5",
        held_for="10m",
        summary="{{ $labels.operation }} of {{ $labels.job }} takes longer than 0.5 s, one time in a hundred",
        means="Signatures get slow; when the queue is full, calls are refused as TOKEN_BUSY.",
        dashboard="finid-keys",
    ),
    Alert(
        name="FinIdCrlStale",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        # Made anew after 6 h (services/ca/crl.py: REFRESHED_AFTER), looked at every 30 s.
        query="min(finid_crl_age_seconds) > 7 * 3600",
        held_for="5m",
        summary="No revocation list was made for seven hours; one is due after six",
        means="New revocations may be missing from the list. The last list is good until 24 h after it was made.",
        dashboard="finid-keys",
    ),
    Alert(
        name="FinIdCrlStale",
        severity=Severity.PAGE,
        kind=Kind.CAUSE,
        query="max(finid_crl_next_update_seconds) < 8 * 3600",
        held_for="5m",
        summary="The revocation list ends within eight hours and no newer one was made",
        means="When it ends, every verifier that goes by lists refuses every signature made with FinID.",
        dashboard="finid-keys",
    ),
    Alert(
        name="FinIdAuthorityCertificateEnds",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query=any_of(
            # The ceremony renews them from 30 and from 365 days before (services/ca/ceremony.py).
            'min by (certificate) (finid_own_certificate_ends_seconds{certificate="ocsp"}) < 21 * 86400',
            'min by (certificate) (finid_own_certificate_ends_seconds{certificate="tsa"}) < 330 * 86400',
            'min by (certificate) (finid_own_certificate_ends_seconds{certificate="issuing"}) < 540 * 86400',
        ),
        held_for="10m",
        summary="The authority's certificate `{{ $labels.certificate }}` ends soon",
        means="ocsp, tsa: status or time stamps stop when it ends. issuing: people's certificates live for up to a "
        "year and may not outlive it, so that the next one needs a ceremony well before.",
        dashboard="finid-keys",
    ),
    Alert(
        name="FinIdIntentsAborted",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query=all_of(
            _share(
                'sum(rate(finid_signing_intents_total{state="ABORTED"}[1h]))',
                'sum(rate(finid_signing_intents_total{state="INTENT"}[1h])) > 0.01',
            ),
            'sum(increase(finid_signing_intents_total{state="ABORTED"}[1h])) >= 5',
        ),
        held_for="0s",
        summary="More than 1 % of signing intents are aborted",
        means="Signings stop between intent and record: the person must begin anew with a new authentication.",
        dashboard="finid-keys",
    ),
)

_PEOPLE: Final = (
    Alert(
        name="FinIdNothingFinishes",
        severity=Severity.PAGE,
        kind=Kind.SYMPTOM,
        query=all_of(
            "(sum(increase(finid_authentications_finished_total[30m])) or vector(0)) == 0",
            # Whoever began more than 15 minutes ago has ended by now, one way or the other.
            "sum(increase(finid_authentications_started_total[30m] offset 15m)) >= 20",
        ),
        held_for="5m",
        summary="At least twenty authentications were begun, and for half an hour none has come to a verdict",
        means="The flow is broken somewhere between the link and the verdict, without errors that would show it.",
        dashboard="finid-people",
    ),
    Alert(
        name="FinIdCodesNotEntered",
        severity=Severity.PAGE,
        kind=Kind.SYMPTOM,
        # otp itself stops sending to one beginning of one application under 20 % (docs/sms.md, "Pumping").
        query=all_of(
            _share(
                'sum(increase(finid_codes_checked_total{outcome="right"}[1h]) or vector(0))',
                'sum(increase(finid_codes_sent_total{outcome="SENT"}[1h])) < 0.3',
            ),
            'sum(increase(finid_codes_sent_total{outcome="SENT"}[1h])) >= 50',
        ),
        held_for="15m",
        summary="Fewer than 30 % of the codes that providers took are entered",
        means="SMS are taken and do not arrive, or somebody has codes sent to numbers that are nobody's (pumping). "
        "People cannot finish; SMS are paid for.",
        dashboard="finid-people",
    ),
    Alert(
        name="FinIdSmsProviderFails",
        severity=Severity.TICKET,
        kind=Kind.CAUSE,
        query=all_of(
            _share(
                'sum by (provider) (rate(finid_codes_sent_total{outcome=~"UNKNOWN|UNDELIVERED"}[30m]))',
                'sum by (provider) (rate(finid_codes_sent_total{outcome=~"SENT|UNKNOWN"}[30m])) > 0.1',
            ),
            'sum by (provider) (increase(finid_codes_sent_total{outcome=~"UNKNOWN|UNDELIVERED"}[30m])) >= 5',
        ),
        held_for="5m",
        summary="One code in ten by the SMS provider {{ $labels.provider }} is lost or reported as not delivered",
        means="A code whose answer was lost goes to no other provider, since it may be on its way; people wait and ask "
        "again. What a provider refuses at once goes to the next of the route, and is not counted here.",
        dashboard="finid-people",
    ),
)
