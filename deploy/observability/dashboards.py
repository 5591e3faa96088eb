"""Grafana's dashboards: objectives, services (RED and USE), people, biometrics, keys.

Panels say what a newcomer should read out of them. Rates are over $__rate_interval, which Grafana makes four scrapes
long at least.
"""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.observability.objectives import OBJECTIVES, OWN_FAULT
from deploy.observability.panels import Line, Unit, board, choice, distribution, figure, lines, row

_EACH: Final = 'service=~"$service"'
_W: Final = "[$__rate_interval]"


def dashboards() -> Mapping[str, str]:
    """Return the JSON of each dashboard by its uid."""
    made = [one.build() for one in (_objectives(), _services(), _people(), _biometrics(), _keys())]
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {str(one.uid): encoder.encode(one) + "\n" for one in made}


def _rate(counter: str, matchers: str = "", by: str = "") -> str:
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({counter}{{{matchers}}}{_W}))"


def _quantile(share: float, histogram: str, matchers: str = "", by: str = "") -> str:
    kept = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, sum by ({kept}) (rate({histogram}_bucket{{{matchers}}}{_W})))"


def _of(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def _objectives() -> Dashboard:
    made = board(
        "finid-objectives",
        "FinID: objectives",
        "What people and banks may count on (docs/slo.md), what is left of the error budget, how fast it burns.",
    )
    for item in OBJECTIVES:
        of_it = f'{{slo="{item.name}"}}'
        share = _of(
            f"avg_over_time(finid:slo_bad:rate5m{of_it}[$__range])",
            f"avg_over_time(finid:slo_events:rate5m{of_it}[$__range])",
        )
        made = (
            made.with_row(row(f"{item.title}: {item.target:.2%}"))
            .with_panel(
                figure(
                    "Budget left",
                    "Of 30 days; below 0 more went wrong than was promised.",
                    Unit.SHARE,
                    f"finid:slo_budget_left:ratio30d{of_it}",
                    least=0.1,
                )
            )
            .with_panel(figure("Good in this range", item.why, Unit.SHARE, f"1 - {share}", least=item.target))
            .with_panel(
                lines(
                    "Burn rate",
                    "1 uses the budget up in 30 days. Above 14.4 over an hour, or 6 over six hours, somebody is paged.",
                    Unit.COUNT,
                    *(
                        Line(f"finid:slo_bad:ratio_rate{window}{of_it} / {item.budget:g}", window)
                        for window in ("5m", "1h", "6h", "3d")
                    ),
                    most=6,
                )
            )
            .with_panel(
                lines(
                    "Events",
                    "How many there are, and how many of them went wrong.",
                    Unit.PER_SECOND,
                    Line(f"finid:slo_events:rate5m{of_it}", "all"),
                    Line(f"finid:slo_bad:rate5m{of_it}", "bad"),
                )
            )
        )
    return made


def _services() -> Dashboard:
    server, client = "finid_rpc_server_duration_seconds", "finid_rpc_client_duration_seconds"
    return (
        board(
            "finid-services",
            "FinID: services",
            "RED of every service's calls, USE of its workers, its database connections and its processes.",
            variables=[choice("service", "Service", "label_values(finid_rpc_server_in_flight, service)")],
        )
        .with_row(row("Calls answered: rate, errors, duration"))
        .with_panel(
            lines(
                "Calls", "By service.", Unit.PER_SECOND, Line(_rate(f"{server}_count", _EACH, "service"), "{{service}}")
            )
        )
        .with_panel(
            lines(
                "Errors of FinID's own",
                f"{OWN_FAULT.replace('|', ', ')}: page 'requests' counts these.",
                Unit.PER_SECOND,
                Line(_rate(f"{server}_count", f'{_EACH},code=~"{OWN_FAULT}"', "service, code"), "{{service}} {{code}}"),
            )
        )
        .with_panel(
            lines(
                "Duration, 99 of 100",
                "By service; streams count with the time they were open.",
                Unit.SECONDS,
                Line(_quantile(0.99, server, _EACH, "service"), "{{service}}"),
            )
        )
        .with_panel(
            lines(
                "Refusals",
                "All other codes: what callers may not, or may not have more of.",
                Unit.PER_SECOND,
                Line(
                    _rate(f"{server}_count", f'{_EACH},code!~"OK|{OWN_FAULT}"', "service, code"), "{{service}} {{code}}"
                ),
            )
        )
        .with_panel(
            lines(
                "Slowest methods, 95 of 100",
                "The ten slowest now.",
                Unit.SECONDS,
                Line(f"topk(10, {_quantile(0.95, server, _EACH, 'service, method')})", "{{service}} {{method}}"),
            )
        )
        .with_panel(
            lines(
                "In flight",
                "Calls that are worked on now.",
                Unit.COUNT,
                Line(f"sum by (service) (finid_rpc_server_in_flight{{{_EACH}}})", "{{service}}"),
            )
        )
        .with_row(row("Calls of the gateway to the spokes"))
        .with_panel(
            lines(
                "Share that fails",
                "By spoke: look here first when an objective is missed.",
                Unit.SHARE,
                Line(
                    _of(_rate(f"{client}_count", f'code=~"{OWN_FAULT}"', "peer"), _rate(f"{client}_count", "", "peer")),
                    "{{peer}}",
                ),
                most=0.05,
            )
        )
        .with_panel(
            lines(
                "Duration by spoke, 99 of 100",
                "By spoke, with the network between.",
                Unit.SECONDS,
                Line(_quantile(0.99, client, "", "peer"), "{{peer}}"),
            )
        )
        .with_panel(
            lines(
                "Calls to spokes", "By spoke.", Unit.PER_SECOND, Line(_rate(f"{client}_count", "", "peer"), "{{peer}}")
            )
        )
        .with_row(row("Envoy"))
        .with_panel(
            lines(
                "Calls to those behind it",
                "By cluster and class of the answer; class 5 is what Envoy answered because nobody else did.",
                Unit.PER_SECOND,
                Line(
                    _rate("envoy_cluster_upstream_rq_xx", "", "envoy_cluster_name, envoy_response_code_class"),
                    "{{envoy_cluster_name}} {{envoy_response_code_class}}xx",
                ),
                width=16,
            )
        )
        .with_panel(
            lines(
                "Its certificates",
                "Time until each ends. Below 14 days a ticket is made, below 3 somebody is paged.",
                Unit.SECONDS,
                Line(
                    "min by (envoy_tls_certificate) (envoy_listener_ssl_certificate_expiration_unix_time_seconds or "
                    "envoy_cluster_ssl_certificate_expiration_unix_time_seconds) - time()",
                    "{{envoy_tls_certificate}}",
                ),
            )
        )
        .with_row(row("Workers: utilisation, saturation, errors"))
        .with_panel(
            lines(
                "Busy",
                "Share of the workers that work on a call.",
                Unit.SHARE,
                Line(
                    _of(
                        f"sum by (service, pool) (finid_worker_busy{{{_EACH}}})",
                        f"sum by (service, pool) (finid_worker_count{{{_EACH}}})",
                    ),
                    "{{service}} {{pool}}",
                ),
                most=0.9,
                width=6,
            )
        )
        .with_panel(
            lines(
                "Queue",
                "The longest of the replicas' queues. Past 32 people are told WORKERS_BUSY.",
                Unit.COUNT,
                Line(f"max by (service, pool) (finid_worker_queue_length{{{_EACH}}})", "{{service}} {{pool}}"),
                most=16,
                width=6,
            )
        )
        .with_panel(
            lines(
                "Work, 95 of 100",
                "How long a worker takes for one call, without the queue.",
                Unit.SECONDS,
                Line(
                    _quantile(0.95, "finid_worker_batch_duration_seconds", _EACH, "service, pool"),
                    "{{service}} {{pool}}",
                ),
                width=6,
            )
        )
        .with_panel(
            lines(
                "Deaths",
                "Workers that died, took too long or answered nonsense, in an hour.",
                Unit.COUNT,
                Line(
                    f"sum by (service, pool) (increase(finid_worker_crashes_total{{{_EACH}}}[1h]))",
                    "{{service}} {{pool}}",
                ),
                width=6,
            )
        )
        .with_row(row("Database"))
        .with_panel(
            lines(
                "Connections in use",
                "Share of what the service may have; at 1 calls wait.",
                Unit.SHARE,
                Line(
                    _of(
                        f"sum by (service) (finid_sql_pool_in_use{{{_EACH}}})",
                        f"sum by (service) (finid_sql_pool_size{{{_EACH}}})",
                    ),
                    "{{service}}",
                ),
                most=0.9,
            )
        )
        .with_panel(
            lines(
                "Statements, 99 of 100",
                "They end by themselves at 5 s.",
                Unit.SECONDS,
                Line(_quantile(0.99, "finid_sql_duration_seconds", _EACH, "service"), "{{service}}"),
            )
        )
        .with_panel(
            lines(
                "Statements",
                "By service.",
                Unit.PER_SECOND,
                Line(_rate("finid_sql_duration_seconds_count", _EACH, "service"), "{{service}}"),
            )
        )
        .with_row(row("Processes"))
        .with_panel(
            lines(
                "Up",
                "Replicas that answer a scrape.",
                Unit.COUNT,
                Line('sum by (job) (up{job=~"finid-.+"})', "{{job}}"),
                width=6,
            )
        )
        .with_panel(
            lines(
                "Serving",
                "Replicas that have all they need. Those that are up and do not serve have lost a dependency.",
                Unit.COUNT,
                Line(f"sum by (service) (finid_serving{{{_EACH}}})", "{{service}}"),
                width=6,
            )
        )
        .with_panel(
            lines(
                "CPU",
                "Cores in use by the service's processes, without its workers.",
                Unit.COUNT,
                Line(f'sum by (job) (rate(process_cpu_seconds_total{{job=~"finid-.+"}}{_W}))', "{{job}}"),
                width=6,
            )
        )
        .with_panel(
            lines(
                "Memory",
                "Resident, without its workers.",
                Unit.BYTES,
                Line('max by (job) (process_resident_memory_bytes{job=~"finid-.+"})', "{{job}}"),
                width=6,
            )
        )
    )


def _people() -> Dashboard:
    started, finished = "finid_authentications_started_total", "finid_authentications_finished_total"
    return (
        board(
            "finid-people",
            "FinID: people and banks",
            "How far authentications come, why they end, whether codes arrive, whether banks are told.",
        )
        .with_row(row("The funnel of an authentication"))
        .with_panel(
            lines(
                "How far they come",
                "An hour's count at each stage: each line lies below the one before it.",
                Unit.COUNT,
                Line(f"sum (increase({started}[1h]))", "1 begun"),
                Line('sum (increase(finid_liveness_attempts_total{outcome="PASSED"}[1h]))', "2 alive"),
                Line('sum (increase(finid_facematch_comparisons_total{outcome="MATCH"}[1h]))', "3 face matches"),
                Line('sum (increase(finid_codes_sent_total{outcome="SENT"}[1h]))', "4 code sent"),
                Line('sum (increase(finid_codes_checked_total{outcome="right"}[1h]))', "5 code entered"),
                Line(f'sum (increase({finished}{{verdict="SUCCESS"}}[1h]))', "6 success"),
                width=16,
            )
        )
        .with_panel(
            figure(
                "Success",
                "Of those that ended in this hour, with a verdict or without.",
                Unit.SHARE,
                f'sum (increase({finished}{{verdict="SUCCESS"}}[1h])) / (sum (increase({finished}[1h])) + '
                "(sum (increase(finid_authentications_abandoned_total[1h])) or vector(0)))",
                width=8,
            )
        )
        .with_panel(lines("Begun, by purpose", "", Unit.PER_SECOND, Line(_rate(started, "", "purpose"), "{{purpose}}")))
        .with_panel(
            lines(
                "Failures, by reason",
                'docs/errors.md, "Verdicts", says what each is.',
                Unit.PER_SECOND,
                Line(_rate(finished, 'verdict="FAILURE"', "reason"), "{{reason}}"),
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Ended without a verdict",
                "EXPIRED: nobody went on within 15 minutes.",
                Unit.PER_SECOND,
                Line(_rate("finid_authentications_abandoned_total", "", "state"), "{{state}}"),
                stacked=True,
            )
        )
        .with_row(row("Codes by SMS"))
        .with_panel(
            lines(
                "Conversion",
                "Codes entered rightly, of those that a provider took, in an hour. Below 0.3 somebody is paged.",
                Unit.SHARE,
                Line(
                    _of(
                        'sum (increase(finid_codes_checked_total{outcome="right"}[1h]))',
                        'sum (increase(finid_codes_sent_total{outcome="SENT"}[1h]))',
                    ),
                    "entered",
                ),
            )
        )
        .with_panel(
            lines(
                "Sent",
                "By provider and outcome; FAILED: no provider of the route took it.",
                Unit.PER_SECOND,
                Line(_rate("finid_codes_sent_total", "", "provider, outcome"), "{{provider}} {{outcome}}"),
            )
        )
        .with_panel(
            lines(
                "Checked",
                "What came back.",
                Unit.PER_SECOND,
                Line(_rate("finid_codes_checked_total", "", "outcome"), "{{outcome}}"),
                stacked=True,
            )
        )
        .with_row(row("Signatures and documents"))
        .with_panel(
            lines(
                "Signatures",
                "By format and outcome; refused: for what was handed in.",
                Unit.PER_SECOND,
                Line(_rate("finid_signatures_total", "", "format, outcome"), "{{format}} {{outcome}}"),
            )
        )
        .with_panel(
            lines(
                "Certificates issued",
                "In an hour.",
                Unit.COUNT,
                Line("sum (increase(finid_certificates_issued_total[1h]))", "issued"),
            )
        )
        .with_panel(
            lines(
                "Certificates that end soon",
                "Their owners are told by SMS 30 and 7 days before.",
                Unit.COUNT,
                Line("max by (within_days) (finid_certificates_expiring)", "within {{within_days}} days"),
            )
        )
        .with_row(row("Banks"))
        .with_panel(
            lines(
                "Refused for their rate",
                "By kind of call.",
                Unit.PER_SECOND,
                Line(_rate("finid_rate_limited_total", "", "kind"), "{{kind}}"),
            )
        )
        .with_panel(
            lines(
                "Webhooks",
                "By what became of the attempt.",
                Unit.PER_SECOND,
                Line(_rate("finid_webhook_deliveries_total", "", "outcome"), "{{outcome}}"),
            )
        )
        .with_panel(
            lines(
                "Oldest webhook that waits",
                "One bank's dead server keeps it up for three days: look at the deliveries beside it.",
                Unit.SECONDS,
                Line("max (finid_webhook_oldest_pending_seconds)", "age"),
            )
        )
        .with_panel(
            lines(
                "Calls that the journal lacks",
                "In an hour; should be 0.",
                Unit.COUNT,
                Line("sum (increase(finid_journal_write_errors_total[1h]))", "lost"),
            )
        )
    )


def _biometrics() -> Dashboard:
    score = "finid_liveness_passive_score"
    return (
        board(
            "finid-biometrics",
            "FinID: biometrics",
            "Presentation attack detection and face match, as figures of many: nothing here is of one person.",
        )
        .with_row(row("Liveness"))
        .with_panel(
            distribution(
                "Passive scores",
                "From 0 (an attack) to 1. A second band that appears low is an attack "
                "at scale or a camera that the models do not know.",
                f"sum by (le) (increase({score}_bucket{_W}))",
            )
        )
        .with_panel(
            lines(
                "Median and tenth",
                "Over an hour. The alert compares the median with the day before.",
                Unit.COUNT,
                *(
                    Line(f"histogram_quantile({share:g}, sum by (le) (rate({score}_bucket[1h])))", name)
                    for share, name in ((0.5, "median"), (0.1, "lowest tenth"))
                ),
                width=12,
            )
        )
        .with_panel(
            lines(
                "Attempts by outcome",
                "docs/biometrics.md says what each signal is.",
                Unit.PER_SECOND,
                Line(_rate("finid_liveness_attempts_total", "", "outcome"), "{{outcome}}"),
                stacked=True,
                width=12,
            )
        )
        .with_panel(
            lines(
                "Share that passes",
                "Over an hour, and over the day before.",
                Unit.SHARE,
                Line(
                    _of(
                        'sum (increase(finid_liveness_attempts_total{outcome="PASSED"}[1h]))',
                        "sum (increase(finid_liveness_attempts_total[1h]))",
                    ),
                    "hour",
                ),
                Line(
                    _of(
                        'sum (increase(finid_liveness_attempts_total{outcome="PASSED"}[1d] offset 1h))',
                        "sum (increase(finid_liveness_attempts_total[1d] offset 1h))",
                    ),
                    "day before",
                ),
                width=12,
            )
        )
        .with_row(row("Face match"))
        .with_panel(
            lines(
                "Comparisons by outcome",
                "",
                Unit.PER_SECOND,
                Line(_rate("finid_facematch_comparisons_total", "", "outcome"), "{{outcome}}"),
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "Share that matches",
                "Over an hour.",
                Unit.SHARE,
                Line(
                    _of(
                        'sum (increase(finid_facematch_comparisons_total{outcome="MATCH"}[1h]))',
                        "sum (increase(finid_facematch_comparisons_total[1h]))",
                    ),
                    "matches",
                ),
            )
        )
        .with_panel(
            lines(
                "Reference photos found in the cache",
                "",
                Unit.SHARE,
                Line(
                    _of(
                        _rate("finid_facematch_reference_lookups_total", 'result="hit"'),
                        _rate("finid_facematch_reference_lookups_total"),
                    ),
                    "hits",
                ),
            )
        )
    )


def _keys() -> Dashboard:
    token = "finid_hsm_operation_duration_seconds"  # noqa: S105  a metric's name
    return (
        board(
            "finid-keys",
            "FinID: keys, HSM and CA",
            "Tokens, subject keys, revocation lists, OCSP, time stamps.",
        )
        .with_row(row("Subject keys"))
        .with_panel(
            figure(
                "Unwraps without a reason",
                "Anything but 0 is an alarm: runbook FinIdKeyUnwrapWithoutIntent.",
                Unit.COUNT,
                "max (abs(finid_key_unwraps_unexplained))",
                most=1,
                width=8,
            )
        )
        .with_panel(
            lines(
                "Unwraps and reasons",
                "The two lines lie on one another.",
                Unit.PER_SECOND,
                Line(_rate("finid_key_unwraps_total"), "unwraps"),
                Line(_rate("finid_signing_intents_total", 'state=~"INTENT|NEW_KEY"'), "reasons"),
            )
        )
        .with_panel(
            lines(
                "Intents",
                "ABORTED: stopped between intent and record; the person begins anew.",
                Unit.PER_SECOND,
                Line(_rate("finid_signing_intents_total", "", "state"), "{{state}}"),
            )
        )
        .with_row(row("Tokens"))
        .with_panel(
            lines(
                "Operations",
                "",
                Unit.PER_SECOND,
                Line(_rate(f"{token}_count", "", "job, operation"), "{{job}} {{operation}}"),
            )
        )
        .with_panel(
            lines(
                "Duration, 99 of 100",
                "Without the wait for a turn.",
                Unit.SECONDS,
                Line(_quantile(0.99, token, "", "job, operation"), "{{job}} {{operation}}"),
                most=0.5,
            )
        )
        .with_panel(
            lines(
                "Errors",
                "What the token did not do.",
                Unit.PER_SECOND,
                Line(_rate("finid_hsm_errors_total", "", "job, operation"), "{{job}} {{operation}}"),
            )
        )
        .with_row(row("What relying parties fetch"))
        .with_panel(
            figure(
                "Revocation list ends in",
                "Made anew after 6 h, good for 24 h.",
                Unit.SECONDS,
                "min (finid_crl_next_update_seconds)",
                least=8 * 3600,
            )
        )
        .with_panel(
            figure("Revocation list made", "So long ago.", Unit.SECONDS, "max (finid_crl_age_seconds)", most=7 * 3600)
        )
        .with_panel(
            lines(
                "Certificates of its own end in",
                "Mesh certificates are renewed by themselves, those of the authority at a ceremony.",
                Unit.SECONDS,
                Line(
                    "min by (service, certificate) (finid_own_certificate_ends_seconds)", "{{service}} {{certificate}}"
                ),
            )
        )
        .with_panel(
            lines(
                "OCSP answers",
                "By status of the certificate asked about.",
                Unit.PER_SECOND,
                Line(_rate("finid_ocsp_responses_total", "", "status"), "{{status}}"),
            )
        )
        .with_panel(
            lines(
                "Time stamps",
                "no_time: the clock is not vouched for.",
                Unit.PER_SECOND,
                Line(_rate("finid_time_stamps_total", "", "outcome"), "{{outcome}}"),
            )
        )
    )
