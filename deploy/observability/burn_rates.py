"""Rules that follow from the objectives: how fast the error budget burns, over several windows.

The windows and factors are those of the SRE Workbook (chapter 5, "multiwindow, multi-burn-rate alerts"): a page when
2 % of 30 days' budget are gone in an hour or 5 % in six, a ticket when 10 % are gone in a day or in three. The short
window ends the alert soon after the cause has ended.

Longer windows are averages of the two recorded rates, not of what the services count: a window of 30 days then reads
two series for each objective, and bad over all is still weighted by the events there were.
"""

from dataclasses import dataclass
from typing import Final

from deploy.observability.objectives import OBJECTIVES, Objective
from deploy.observability.rules import Alert, Group, Kind, Recording, Severity, all_of, any_of

# At night one failure of two would be half of all: so many must have failed in the long window before anybody hears.
LEAST_FAILURES: Final = 5


@dataclass(frozen=True, slots=True)
class Burn:
    """Budget that goes `factor` times faster than would last for 30 days, over both windows."""

    factor: float
    long: str
    long_s: int
    short: str


BURNS: Final = {
    Severity.PAGE: (Burn(14.4, "1h", 3600, "5m"), Burn(6, "6h", 21_600, "30m")),
    Severity.TICKET: (Burn(3, "1d", 86_400, "2h"), Burn(1, "3d", 259_200, "6h")),
}
_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_BAD: Final = "finid:slo_bad:rate5m"
_EVENTS: Final = "finid:slo_events:rate5m"


def groups() -> list[Group]:
    """Return the groups of all objectives."""
    rates = [rule for item in OBJECTIVES for rule in _rates(item)]
    return [
        Group("finid-objectives", "30s", [*rates, *map(_share, _WINDOWS)]),
        Group("finid-burn-rates", "30s", [_alert(item, severity) for item in OBJECTIVES for severity in Severity]),
        Group("finid-error-budgets", "5m", [*map(_budget, OBJECTIVES), _share("30d"), _BUDGET_LEFT, _BUDGET_SPENT]),
    ]


def _rates(objective: Objective) -> list[Recording]:
    labels = {"slo": objective.name}
    # Without one bad event there may be no series of it; the rate is 0 then, not unknown.
    bad = f"({objective.bad})\nor\n0 * ({objective.events})"
    return [Recording(_EVENTS, objective.events, labels), Recording(_BAD, bad, labels)]


def _share(window: str) -> Recording:
    query = f"avg_over_time({_BAD}[{window}]) / avg_over_time({_EVENTS}[{window}])"
    return Recording(f"finid:slo_bad:ratio_rate{window}", query)


def _budget(objective: Objective) -> Recording:
    return Recording("finid:slo_budget:ratio", f"vector({objective.budget:g})", {"slo": objective.name})


def _alert(objective: Objective, severity: Severity) -> Alert:
    return Alert(
        name=objective.alert,
        severity=severity,
        kind=Kind.SYMPTOM,
        query=any_of(*(f"(\n{_burns(objective, burn)}\n)" for burn in BURNS[severity])),
        # The long windows hold it long enough.
        held_for="1m" if severity is Severity.PAGE else "15m",
        summary=objective.summary,
        means=objective.means,
        dashboard="finid-objectives",
    )


def _burns(objective: Objective, burn: Burn) -> str:
    of_it = f'{{slo="{objective.name}"}}'
    most = f"{burn.factor * objective.budget:.6g}"
    return all_of(
        f"  finid:slo_bad:ratio_rate{burn.long}{of_it} > {most}",
        f"  finid:slo_bad:ratio_rate{burn.short}{of_it} > {most}",
        f"  avg_over_time({_BAD}{of_it}[{burn.long}]) * {burn.long_s} >= {LEAST_FAILURES}",
    )


_BUDGET_LEFT: Final = Recording(
    "finid:slo_budget_left:ratio30d", "1 - finid:slo_bad:ratio_rate30d / on (slo) finid:slo_budget:ratio"
)
_BUDGET_SPENT: Final = Alert(
    name="FinIdErrorBudgetSpent",
    severity=Severity.TICKET,
    kind=Kind.SYMPTOM,
    query="finid:slo_budget_left:ratio30d < 0",
    held_for="1h",
    summary="The error budget of 30 days for {{ $labels.slo }} is spent",
    means="More went wrong in 30 days than was promised; releases that are no repair wait.",
    dashboard="finid-objectives",
)
