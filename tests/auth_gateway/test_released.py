"""Personal data leaves on success only, and only what the person agreed to, whatever was released to the hub."""

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.registry.v1 import registry_pb2

from mesh.errors import Code
from mesh.transaction import Channel, Purpose
from services.auth_gateway.authentication import Authentication, State
from services.auth_gateway.released import within
from services.auth_gateway.servicer import answers
from tests.auth_gateway.fakes import refusal, unavailable
from tests.auth_gateway.room import Room, ask_of
from tests.bundles import IIN

EVERYTHING = {field.name: field.name.upper() for field in auth.Person.DESCRIPTOR.fields} | {"iin": IIN}
NAMES = {"family_name", "given_name", "patronymic", "family_name_latin", "given_name_latin"}
DOCUMENT = {"document_kind", "document_number", "document_issue_date", "document_expiry_date"}


@pytest.mark.parametrize(
    ("scopes", "told"),
    [
        ((), set[str]()),
        (("name",), NAMES),
        (("birth_date",), {"birth_date"}),
        (("document",), DOCUMENT),
        (("name", "birth_date", "document"), NAMES | DOCUMENT | {"birth_date"}),
    ],
)
def test_each_scope_covers_its_own_fields(scopes: tuple[str, ...], told: set[str]) -> None:
    assert within(scopes, EVERYTHING).keys() == told | {"iin"}


def test_every_field_that_registry_releases_is_of_some_scope() -> None:
    released = {field.name for field in type(registry_pb2.ReleaseResponse().person).DESCRIPTOR.fields}
    assert within(("name", "birth_date", "document"), dict.fromkeys(released, "x")).keys() == released


@pytest.mark.postgres
async def test_a_registry_that_releases_more_than_was_agreed_to_tells_no_participant(room: Room) -> None:
    room.registry.people[IIN] = EVERYTHING
    finished = await room.walk(await room.identify(scopes=("name",)), State.FINISHED)
    assert finished.person.keys() == NAMES | {"iin"}
    assert {field.name for field, _ in answers.result(finished, "").person.ListFields()} == NAMES | {"iin"}


async def _refused(room: Room) -> Authentication:
    room.registry.fails("release", refusal("registry", Code.PERMISSION_DENIED, "FACTOR_MISSING"))
    return await room.walk(await room.identify(), State.FINISHED)


async def _wrong_codes(room: Room) -> Authentication:
    item = await room.walk(await room.identify(), State.AWAITING_CODE)
    room.otp.fails("send", refusal("otp", Code.RESOURCE_EXHAUSTED, "CHECK_LIMIT"))
    with pytest.raises(Exception, match="No"):
        await room.flow.send_code(item)
    return await room.get(item.name)


async def _too_late(room: Room) -> Authentication:
    room.registry.fails("release", unavailable("registry"))
    item = await room.walk(await room.identify(), State.AWAITING_CODE)
    await room.enter_code(item)
    room.registry.fails("release", refusal("registry", Code.FAILED_PRECONDITION, "CODE_TOO_OLD"))
    room.clock.pass_by(60)
    await room.completion.resume_once()
    return await room.get(item.name)


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("fail", "reason"),
    [(_refused, "OPERATION_REFUSED"), (_wrong_codes, "CODE_FAILED"), (_too_late, "OPERATION_INTERRUPTED")],
)
async def test_a_failure_tells_a_reason_and_nothing_of_the_person(room: Room, fail: object, reason: str) -> None:
    failed = await fail(room)  # type: ignore[operator]
    result = answers.result(failed, "")
    assert (result.verdict, result.reason, result.HasField("person")) == (auth.VERDICT_FAILURE, reason, False)
    assert failed.person == {}


@pytest.mark.postgres
async def test_what_is_made_for_a_person_tells_nothing_of_them(room: Room) -> None:
    finished = await room.walk(await room.issuing(), State.FINISHED)
    assert (finished.purpose, finished.channel) == (Purpose.ISSUE, Channel.HOSTED)
    assert not answers.result(finished, "").HasField("person")
    assert ask_of().iin not in finished.outcome
