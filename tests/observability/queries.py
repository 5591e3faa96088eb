"""Every query of the rules and the dashboards, and what each reads."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser

from deploy.observability.dashboards import dashboards
from deploy.observability.files import groups

# Grafana fills these in before it asks.
_FILLED_IN = {"$__rate_interval": "1m", "$__range": "6h", "$service": ".+"}


@dataclass(frozen=True, slots=True)
class Selector:
    """One metric that a query reads, with its matchers: label, operator, value."""

    metric: str
    matchers: tuple[tuple[str, promql_parser.MatchOp, str], ...]


def queries_of_rules() -> Mapping[str, str]:
    """Each rule's query by where it stands."""
    return {
        f"{group.name} {number} {rule.name}": rule.query
        for group in groups()
        for number, rule in enumerate(group.rules)
    }


def queries_of_dashboards() -> Mapping[str, str]:
    """Each panel's queries by where they stand, as Prometheus gets them."""
    return {
        f"{uid} / {panel['title']} {target['refId']}": _filled_in(target["expr"])
        for uid, text in dashboards().items()
        for panel in panels_of(json.loads(text))
        for target in panel.get("targets", [])
    }


def panels_of(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel of a dashboard, those in rows as well."""
    waiting = list(board["panels"])
    while waiting:
        panel = waiting.pop(0)
        waiting += panel.get("panels", [])
        yield panel


def selectors_of(query: str) -> list[Selector]:
    """What a query reads."""
    found: list[Selector] = []

    def look(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = tuple((item.name, item.op, item.value) for item in node.matchers.matchers)
            found.append(Selector(str(node.name), matchers))
        return True

    promql_parser.walk(promql_parser.parse(query), look)
    return found


def _filled_in(query: str) -> str:
    for variable, value in _FILLED_IN.items():
        query = query.replace(variable, value)
    return query
