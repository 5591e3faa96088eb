"""docs/errors.md says what the code says: every reason with its code, nothing missing and nothing invented."""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

import mesh
import services
from deploy.envoy import local_replies
from mesh.errors import FinIdError
from mesh.refusal import Refusal
from services.auth_gateway import completion, creation, flow
from services.auth_gateway.authentication import FailureReason
from services.portal import web
from services.portal.client_credentials import GrantRefusedError
from tests.docs.page import Row, tables_of, words

PAGE = tables_of("errors.md")
UPPER_SNAKE = re.compile(r"[A-Z]+(_[A-Z]+)*")
# Programs, what only a worker process may import, and plain SQL.
NOT_IMPORTED = {"__main__", "model", "confined", "migrations"}
GRPC_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

# Sections, and the packages whose errors stand in them; a room's may leave FinID or stay inside.
SECTIONS_OF = {
    ("mesh",): ("Any call", "Every room"),
    ("services.auth_gateway",): ("Authentications, certificates, signatures",),
    ("services.liveness",): ("Liveness",),
    ("services.otp",): ("Codes", "otp"),
    ("services.documents",): ("Documents", "documents"),
    ("services.registry", "services.portal"): ("The record and the application", "registry"),
    ("services.facematch",): ("facematch",),
    ("services.ca",): ("ca",),
    ("services.signer",): ("signer",),
}
LEAVE_THROUGH_THE_HUB = ("Liveness", "Codes", "Documents", "The record and the application")
OTHER_SECTIONS = ("Errors", "At the edge", "The token endpoint", "Verdicts", "The precondition")


def rows(*sections: str) -> list[Row]:
    return [words(row[:2]) for section in sections for row in PAGE[section]]


@cache
def import_all() -> None:
    for package in (mesh, services):
        _import_under(package)


def _import_under(package: ModuleType) -> None:
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if found.name.rpartition(".")[2] not in NOT_IMPORTED:
            module = importlib.import_module(found.name)
            if found.ispkg:
                _import_under(module)


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for found in base.__subclasses__():
        yield found
        yield from subclasses(found)


def errors_of(packages: tuple[str, ...]) -> set[Row]:
    """(reason, code) of every error class; a class without a reason of its own is the base of some that have one."""
    import_all()
    return {
        (error.reason, error.code.value)
        for error in subclasses(FinIdError)
        if error.__module__.startswith(tuple(f"{package}." for package in packages))
        and error.reason != FinIdError.reason
    }


@pytest.mark.parametrize("packages", SECTIONS_OF, ids=lambda packages: packages[0])
def test_every_error_of_a_package_stands_on_the_page_and_no_other(packages: tuple[str, ...]) -> None:
    stated = rows(*SECTIONS_OF[packages])
    if packages == ("mesh",):
        stated.remove((FinIdError.reason, FinIdError.code.value))  # anything untyped leaves as this
    assert set(stated) == errors_of(packages)
    assert [row for row, count in Counter(stated).items() if count > 1] == []


def test_every_room_and_every_table_is_compared() -> None:
    rooms = {found.name for found in pkgutil.iter_modules(services.__path__, "services.")}
    assert {name for packages in SECTIONS_OF for name in packages} == rooms | {"mesh"}
    compared = {section for sections in SECTIONS_OF.values() for section in sections}
    assert set(PAGE) == compared | set(OTHER_SECTIONS)


def test_every_code_has_its_row() -> None:
    stated = {code for code, *_ in map(words, PAGE["Errors"])}
    met = {row[1] for section in PAGE for row in rows(section) if row[1] in GRPC_CODES.values()} - {"UNKNOWN"}
    assert stated == met


def test_what_the_edge_answers_itself_stands_on_the_page_and_nothing_else() -> None:
    api, page = local_replies.configuration(), local_replies.configuration(local_replies.PAGE_REPLIES)
    replies = [*_replies(api), *_replies(page)]
    assert {(reason, GRPC_CODES[code]) for code, reason in replies} == set(rows("At the edge"))
    text = {words(row)[0]: row[2] for row in PAGE["At the edge"]}
    for reply in {*local_replies.LOCAL_REPLIES, *local_replies.PAGE_REPLIES}:
        assert str(reply.http_status) in text[reply.reason].partition(":")[0]


def _replies(part: Any) -> Iterator[tuple[int, str]]:
    """(code, reason) of every JSON body in a configuration."""
    if isinstance(part, dict):
        if "details" in part:
            yield part["code"], part["details"][0]["reason"]
        part = list(part.values())
    if isinstance(part, list):
        for item in part:
            yield from _replies(item)


def test_every_refusal_of_the_precondition_stands_on_the_page_and_no_other() -> None:
    assert rows("The precondition") == [(refusal.name, refusal.value[0].value) for refusal in Refusal]


def test_every_reason_of_a_failed_verdict_stands_on_the_page_and_no_other() -> None:
    assert [words(row)[0] for row in PAGE["Verdicts"]] == [reason.value for reason in FailureReason]
    assert [row for row in PAGE["Verdicts"] if not all(cell.strip() for cell in row)] == []  # each says what to do


def test_every_error_of_the_token_endpoint_stands_on_the_page_and_no_other() -> None:
    import_all()
    refusals = {refusal.error for refusal in subclasses(GrantRefusedError)}
    others = {"temporarily_unavailable", "server_error"}
    assert {words(row)[0] for row in PAGE["The token endpoint"]} == refusals | others
    source = Path(web.__file__).read_text(encoding="utf-8")
    assert {error for error in others if f'"{error}"' in source} == others


def test_a_reason_that_leaves_through_the_hub_has_a_code_that_may_leave() -> None:
    assert {code for _, code in rows(*LEAVE_THROUGH_THE_HUB)} <= flow._STEP_CODES


def test_a_reason_of_the_public_api_has_one_code() -> None:
    public = rows(*SECTIONS_OF[("services.auth_gateway",)], "Any call", *LEAVE_THROUGH_THE_HUB)
    codes = {reason: {code for other, code in public if other == reason} for reason, _ in public}
    assert {reason: found for reason, found in codes.items() if len(found) > 1} == {}


def test_reasons_are_words() -> None:
    stated = [row[0] for section in PAGE if section not in {"Errors", "The token endpoint"} for row in rows(section)]
    assert [reason for reason in stated if UPPER_SNAKE.fullmatch(reason) is None] == []


def test_the_hub_reacts_to_reasons_that_exist() -> None:
    said = {reason for reason, _ in errors_of(("services",))} | {refusal.name for refusal in Refusal}
    named = {
        flow._ATTEMPTS_EXHAUSTED,
        flow._CHECKS_EXHAUSTED,
        flow._STARTED_MEANWHILE,
        flow._FACE_MISMATCH,
        creation._TOO_MANY_INQUIRIES,
    }
    assert named | set(completion._TOO_LATE) <= said
