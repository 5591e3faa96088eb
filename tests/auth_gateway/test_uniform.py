"""Nobody can probe who exists: no record, a dead source and a face that is not the record's look the same throughout.

A participant's software, with a live person of its own before the camera, does whatever it can think of. What it sees,
and how long each answer takes, must be the same for every cause.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.message import Message

from mesh.errors import Code, FinIdError
from mesh.transaction import Channel
from services.auth_gateway.authentication import Authentication
from services.auth_gateway.ports import Frame
from services.auth_gateway.servicer import answers
from services.auth_gateway.statements import result_claims
from services.auth_gateway.store import Store
from tests.auth_gateway.fakes import (
    CODE,
    FRAMES,
    MAX_ATTEMPTS,
    NOBODYS_IIN,
    refusal,
    unavailable,
)
from tests.auth_gateway.room import Room, ask_of
from tests.bundles import IIN

pytestmark = pytest.mark.postgres


@dataclass
class Seen:
    """What one answer shows: a message or an error, without names and times, and how long it took."""

    what: str
    answer: object
    took_s: float


@dataclass
class Prober:
    """A participant's software; every look it takes is in `seen`."""

    room: Room
    iin: str
    seen: list[Seen] = field(default_factory=list)

    async def sees(self, what: str, ask: Awaitable[object]) -> object:
        started = self.room.clock.seconds()
        try:
            found = await ask
            answer: object = self._shown(found)
        except FinIdError as error:
            found = None
            answer = (error.code, error.reason, error.message, dict(error.metadata), error.retry_after_s)
        self.seen.append(Seen(what, answer, round(self.room.clock.seconds() - started, 3)))
        return found

    def _shown(self, found: object) -> object:
        message: Message
        if isinstance(found, Authentication):
            message = answers.authentication(found)
        elif isinstance(found, str):
            return "a name"
        elif isinstance(found, Message):
            message = found
        elif found is None or isinstance(found, list):
            return found
        else:
            step: Any = found
            message = answers.liveness_step(step)
        for name in ("name", "create_time", "expire_time", "finish_time"):
            if name in message.DESCRIPTOR.fields_by_name:
                message.ClearField(name)
        return str(message)

    async def probe(self) -> list[Seen]:
        """Do everything that can be done with one IIN."""
        room = self.room
        ask = ask_of(iin=self.iin, channel=Channel.STEPS)
        name = await self.sees("create", room.creation.identify(ask, ("name",)))
        assert isinstance(name, str)
        await self.sees("create again", room.creation.identify(ask, ("name",)))
        await self.sees("get", room.get(name))
        item = await room.get(name)
        await self.sees("too early", room.flow.start_liveness(item))
        await room.consent(item)
        await self.sees("evidence before", self._evidence(name))
        for attempt in range(MAX_ATTEMPTS + 1):
            await self.sees(f"start {attempt}", room.flow.start_liveness(await room.get(name)))
            for batch in range(3):
                await self.sees(f"frames {attempt} {batch}", self._submit(name, FRAMES))
            await self.sees("get", room.get(name))
            await self.sees("code", room.flow.send_code(await room.get(name)))
            await self.sees("verify", room.flow.verify_code(await room.get(name), CODE))
        await self.sees("read", self._read(name))
        await self.sees("statement", self._statement(name))
        await self.sees("evidence", self._evidence(name))
        await self.sees("cancel", room.flow.cancel(await room.get(name)))
        await self.sees("issue", room.creation.issue(ask_of(iin=self.iin), "individual-sign"))
        return self.seen

    async def _submit(self, name: str, frames: tuple[Frame, ...]) -> object:
        return await self.room.flow.submit_frames(await self.room.get(name), frames)

    async def _read(self, name: str) -> object:
        item = await self.room.get(name)
        await self.room.results.read(item, "", "")
        return answers.result(await self.room.get(name), "")

    async def _statement(self, name: str) -> object:
        claims = result_claims(await self.room.get(name))
        named_or_timed = {"sub", "jti", "txn", "created_at", "finished_at", "iat"}
        return [(claim, value) for claim, value in claims.items() if claim not in named_or_timed]

    async def _evidence(self, name: str) -> object:
        return list(self.room.results.evidence(await self.room.get(name)).receipts)


def face_of_another(room: Room) -> str:
    room.facematch.is_her = False
    return IIN


def nobody(room: Room) -> str:
    return NOBODYS_IIN


def bad_checksum(room: Room) -> str:
    many = (refusal("registry", Code.INVALID_ARGUMENT, "BAD_CHECKSUM") for _ in range(9))
    room.registry.fails("attest", *many)
    return "000000000000"


def dead_source(room: Room) -> str:
    room.registry.is_dead = True
    return IIN


def no_registry(room: Room) -> str:
    room.registry.fails("attest", *(unavailable("registry") for _ in range(9)))
    return IIN


def her_photo_has_no_face(room: Room) -> str:
    many = (refusal("facematch", Code.INVALID_ARGUMENT, "NO_FACE", image="photo_jwe") for _ in range(9))
    room.facematch.fails("compare", *many)
    return IIN


CAUSES = (face_of_another, nobody, bad_checksum, dead_source, no_registry, her_photo_has_no_face)


def one_attempt_that_is_not_live(room: Room) -> None:
    room.liveness.is_live = False


def facematch_away_once(room: Room) -> None:
    room.facematch.fails("compare", unavailable("facematch"))


def facematch_busy_once(room: Room) -> None:
    room.facematch.fails("compare", refusal("facematch", Code.RESOURCE_EXHAUSTED, "WORKERS_BUSY", retry_after_s=1))


def slow_registry_and_facematch(room: Room) -> None:
    room.registry.attest_takes_s = 0.3
    room.facematch.takes_s = 1.2


def nothing(room: Room) -> None:
    """As it comes."""


@pytest.mark.parametrize(
    "circumstance",
    [nothing, one_attempt_that_is_not_live, facematch_away_once, facematch_busy_once, slow_registry_and_facematch],
)
@pytest.mark.parametrize("cause", CAUSES[1:])
async def test_every_cause_looks_like_the_face_of_another(
    store: Store, cause: Callable[[Room], str], circumstance: Callable[[Room], None]
) -> None:
    looks = []
    for each in (face_of_another, cause):
        room = Room(store)
        circumstance(room)
        looks.append(await Prober(room, each(room)).probe())
    assert looks[1] == looks[0]
    told = {seen.what: seen.answer for seen in looks[0]}
    assert "VERDICT_FAILURE" in str(told["read"])
    assert told["evidence"] == (
        Code.FAILED_PRECONDITION,
        "NO_EVIDENCE",
        "There is evidence of a success only.",
        {},
        None,
    )


@pytest.mark.parametrize("cause", CAUSES)
async def test_facematch_is_asked_whatever_the_cause(store: Store, cause: Callable[[Room], str]) -> None:
    room = Room(store)
    await Prober(room, cause(room)).probe()
    assert room.facematch.calls == ["compare"] * MAX_ATTEMPTS


async def test_limits_do_not_tell_either(store: Store) -> None:
    looks = []
    for cause in CAUSES[:4]:
        room = Room(store)
        iin = cause(room)
        prober = Prober(room, iin)
        for index in range(6):
            await prober.sees(f"create {index}", room.creation.identify(ask_of(iin=iin), ()))
        looks.append(prober.seen)
    assert looks[0][-1].answer[1] == "TOO_MANY_AUTHENTICATIONS"  # type: ignore[index]
    assert all(seen == looks[0] for seen in looks)
