"""Rules as Prometheus reads them: what is recorded, what alerts, and in which group."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

# Where docs/runbooks/ is read by whoever is paged: the operator puts their own place here, and generates again.
RUNBOOKS_URL: Final = "https://docs.example/finid/runbooks"


class Severity(StrEnum):
    """Whom an alert reaches, and when."""

    PAGE = "page"
    """Somebody is woken: people or banks are hurt now, or a key may be in other hands."""
    TICKET = "ticket"
    """Looked at on the next working day: it will hurt if it goes on."""


class Kind(StrEnum):
    """What an alert tells of."""

    SYMPTOM = "symptom"
    """An objective is missed: people or banks notice."""
    CAUSE = "cause"
    """A part does not work as it should; others may hide it."""
    SECURITY = "security"
    """Somebody may be doing what nobody may: the security officer is told as well."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A query whose answer is kept under a name of its own (level:metric:operations)."""

    name: str
    query: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_rule(self) -> dict[str, Any]:
        """Return it as a rule file has it."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.name, "expr": self.query, **labels}


@dataclass(frozen=True, slots=True)
class Alert:
    """A query that should have no answer.

    `held_for` is how long it must have one before anybody hears of it. `summary` may name labels of the answer, as in
    {{ $labels.service }}; `means` says what it is to people and banks.
    """

    name: str
    severity: Severity
    kind: Kind
    query: str
    held_for: str
    summary: str
    means: str
    dashboard: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def runbook_url(self) -> str:
        """Where it is said what to do."""
        return f"{RUNBOOKS_URL}/{self.name}.md"

    def as_rule(self) -> dict[str, Any]:
        """Return it as a rule file has it."""
        return {
            "alert": self.name,
            "expr": self.query,
            "for": self.held_for,
            "labels": {"severity": self.severity.value, "kind": self.kind.value, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.means,
                "runbook_url": self.runbook_url,
                "dashboard": self.dashboard,
            },
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in their order."""

    name: str
    interval: str
    rules: Sequence[Recording | Alert]

    def as_group(self) -> dict[str, Any]:
        """Return it as a rule file has it."""
        return {"name": self.name, "interval": self.interval, "rules": [rule.as_rule() for rule in self.rules]}


def alerts_of(groups: Iterable[Group]) -> list[Alert]:
    """Return every alert; one name may stand there with two severities."""
    return [rule for group in groups for rule in group.rules if isinstance(rule, Alert)]


def any_of(*queries: str) -> str:
    """Return what answers when one of these does."""
    return "\nor\n".join(queries)


def all_of(*queries: str) -> str:
    """Return what answers when all of these do, by equal labels."""
    return "\nand\n".join(queries)
