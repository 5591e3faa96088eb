"""Readiness: all together, or who is not and why."""

import io
from collections.abc import Mapping

from deploy.local.display import Display
from deploy.local.readiness import Check, NotReady, grpc_health, wait_for_all
from tests.ports import free_port


def answers(*given: str) -> Check:
    """A check that gives these answers in turn, and the last one for ever."""
    left = list(given)

    async def check() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return check


async def wait(checks: Mapping[str, Check], timeout_s: float = 5.0) -> tuple[NotReady | None, list[str]]:
    ready: list[str] = []
    return await wait_for_all(checks, timeout_s, lambda name, _: ready.append(name), lambda _: None), ready


async def test_all_ready_is_told_one_by_one() -> None:
    late, ready = await wait({"otp": answers("does not answer yet", ""), "ca": answers("")})
    assert late is None
    assert ready == ["ca", "otp"]


async def test_who_was_ready_and_died_before_the_others_were_is_waited_for_again() -> None:
    late, ready = await wait({"otp": answers("", "does not answer yet", ""), "ca": answers("no", "no", "")})
    assert late is None
    assert ready == ["otp", "ca", "otp"]


async def test_who_is_not_ready_in_time_is_named_with_the_reason() -> None:
    late, ready = await wait({"otp": answers("says it is not serving"), "ca": answers("")}, timeout_s=0.5)
    assert late == NotReady({"otp": "says it is not serving"})
    assert ready == ["ca"]


async def test_a_port_where_nobody_listens_does_not_answer_yet() -> None:
    assert await grpc_health(free_port())() == "does not answer yet"


def test_output_that_is_no_terminal_gets_lines_only() -> None:
    stream = io.StringIO()
    display = Display(stream)
    with display.step("keys"):
        display.say("made")
    display.waiting({"otp": "is starting"})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "made"
    assert lines[1].startswith("  keys: ")
    assert "\x1b" not in stream.getvalue()
