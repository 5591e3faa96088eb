"""docs/states.md says what the code does: every arrow is a transition, and every transition an arrow."""

import datetime
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finid.esign.v1 import esign_pb2

from services.auth_gateway import authentication
from services.auth_gateway.authentication import TRANSITIONS, Verdict
from services.auth_gateway.servicer import esign
from services.ca import ledger
from services.ca import store as ca_store
from services.signer import credential, lifecycle
from services.signer import store as signer_store

Edges = set[tuple[str, str]]

PAGE = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")
ARROW = re.compile(r"^ +([A-Z_]+) --> ([A-Z_]+): .+$", re.MULTILINE)
NOW = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)


def drawn(title: str) -> str:
    """The diagram under a heading."""
    section = re.search(rf"^## {title}$.*?```mermaid\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    return section[1]


def arrows(title: str) -> Edges:
    found = ARROW.findall(drawn(title))
    assert len(found) == len(set(found)), "an arrow twice"
    return set(found)


# Rows from a backup take whatever was recorded: the page says so in words.
NOT_DRAWN = {"_REPAIR"}


def statements(value: Any) -> Iterator[str]:
    """Every SQL text of a store's classes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from statements(item)
    elif isinstance(value, type):
        for name, item in vars(value).items():
            if name not in NOT_DRAWN:
                yield from statements(item)


def updates(module: Any, table: str) -> Iterator[tuple[str, str]]:
    """What each UPDATE of the table's state sets, and its condition; subqueries are about other rows."""
    for value in vars(module).values():
        if getattr(value, "__module__", module.__name__) != module.__name__:
            continue
        for statement in statements(value):
            bare = without_subqueries(statement)
            found = re.search(rf"UPDATE {table}(?: AS (\w+))?\s+SET (.*?)\sWHERE (.*)", bare, re.DOTALL)
            if found and re.search(r"\bstate = ", found[2]):
                alias = f"{found[1]}." if found[1] else ""
                yield found[2], found[3].replace(f"{alias}state", "state") if alias else found[3]


def without_subqueries(statement: str) -> str:
    while True:
        begin = re.search(r"\(\s*SELECT\b", statement)
        if begin is None:
            return statement
        depth, end = 1, begin.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(statement[end], 0)
            end += 1
        statement = f"{statement[: begin.start()]}TRUE{statement[end:]}"


def edges_of(module: Any, table: str, states: set[str]) -> Edges:
    edges: Edges = set()
    for assigned, condition in updates(module, table):
        parameter = re.search(r"\bstate = (\$\d+)", assigned)
        if parameter:
            edges |= chosen(condition, parameter[1], states)
            continue
        set_to = re.search(r"\bstate = (CASE.*?END|'[A-Z]+')", assigned, re.DOTALL)
        assert set_to is not None, assigned
        targets = set(re.findall(r"(?:THEN|ELSE) '([A-Z]+)'|^'([A-Z]+)'$", set_to[1]))
        left = re.findall(r"(?<![.\w])state = '([A-Z]+)'|(?<![.\w])state IN \(([^)]*)\)", condition)
        sources = {name for one, many in left for name in ([one] if one else re.findall(r"'([A-Z]+)'", many))}
        assert sources, f"a statement that leaves any state: {condition}"
        edges |= {(source, one or other) for source in sources for one, other in targets}
    return edges


def chosen(condition: str, parameter: str, states: set[str]) -> Edges:
    """The transitions of a statement that is told the state to set: its condition, asked for each pair."""
    asked = re.sub(r"\bactor = \$\d+", "True", condition[condition.index("((state") :].partition("RETURNING")[0])
    for sql, python in (("<>", "!="), (" = ", " == "), (" AND ", " and "), (" OR ", " or ")):
        asked = asked.replace(sql, python)
    asked = re.sub(r"\s+", " ", asked.replace(parameter, "target").replace("\n", " "))
    asked = re.sub(r"\bOR\b", "or", asked)
    code = compile(asked.strip(), "<condition>", "eval")
    return {
        (state, target)
        for state, target in product(states, states)
        if target in {"ISSUED", "SUSPENDED", "REVOKED"} and eval(code, {"state": state, "target": target})  # noqa: S307
    }


def test_an_authentication() -> None:
    assert arrows("Authentication") == {(left, reached) for left, every in TRANSITIONS.items() for reached in every}


def test_an_operation() -> None:
    def told(state: authentication.State, verdict: Verdict | None, is_read: bool) -> str:
        current: Any = SimpleNamespace(state=state, verdict=verdict, reason="", result_read_at=NOW if is_read else None)
        progress, _ = esign._progress(current)
        return esign_pb2.OperationState.Name(progress).removeprefix("OPERATION_STATE_")

    finished = authentication.State.FINISHED
    moves = {
        (told(left, None, False), told(reached, verdict, False))
        for left, every in TRANSITIONS.items()
        for reached in every
        for verdict in (Verdict if reached is finished else [None])
    } | {(told(finished, verdict, False), told(finished, verdict, True)) for verdict in Verdict}
    assert arrows("Operation") == {(left, reached) for left, reached in moves if left != reached}


def test_a_credential() -> None:
    edges = edges_of(signer_store, "signer.credentials", {state.value for state in credential.State})
    by_time: Edges = {
        (state.value, credential.State.EXPIRED.value)
        for state in credential.State
        if _ran_out(state) is credential.State.EXPIRED and state is not credential.State.EXPIRED
    }
    destroyed = {(state.value, credential.State.DESTROYED.value) for state in lifecycle._DESTROYED_FROM}
    assert arrows("Credential") == edges | by_time | destroyed


def _ran_out(state: credential.State) -> credential.State:
    row: Any = SimpleNamespace(state=state, not_after=NOW - datetime.timedelta(days=1))
    return credential.Credential.state_at(row, NOW)


def test_a_certificate() -> None:
    states = {state.value for state in ledger.State}
    assert arrows("Certificate") == edges_of(ca_store, "ca.certificates", states)


@pytest.mark.parametrize(
    ("title", "states"),
    [
        ("Authentication", set(authentication.State)),
        ("Operation", {"PENDING", "DONE", "FAILED"}),
        ("Credential", set(credential.State)),
        ("Certificate", set(ledger.State)),
    ],
)
def test_every_state_is_drawn_and_no_other(title: str, states: set[str]) -> None:
    assert set(re.findall(r"\b[A-Z]{4,}(?:_[A-Z]+)*(?= -->)|(?<=--> )[A-Z_]{4,}", drawn(title))) == states
