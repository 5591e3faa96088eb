"""How long request ids are kept, and that a create call has one effect however often and wherever it comes."""

import asyncio
import datetime
from dataclasses import replace

import psycopg
import pytest
from finid.auth.v1 import auth_pb2 as auth

from deploy.local import database as local
from mesh.errors import DependencyUnavailableError
from mesh.names import new_id
from services.auth_gateway.request_store import RequestStore
from services.auth_gateway.retention import Retention
from tests.auth_gateway.edge import Edge
from tests.auth_gateway.fakes import APPLICATION
from tests.auth_gateway.room import Room, ask_of
from tests.auth_gateway.visits import create

pytestmark = pytest.mark.postgres

DAY_S = 24 * 3600


def retention_of(room: Room) -> Retention:
    return Retention(RequestStore(room.store._database), room.clock.now, room.clock.sleep)


async def test_a_repeat_within_a_day_is_the_same_and_after_it_a_new_one(room: Room) -> None:
    ask = ask_of(request_id=new_id())
    first = await room.creation.identify(ask, ("name",))
    room.clock.pass_by(DAY_S - 60)
    await retention_of(room).forget_once()
    assert await room.creation.identify(ask, ("name",)) == first
    room.clock.pass_by(120)
    await retention_of(room).forget_once()
    assert await room.creation.identify(ask, ("name",)) != first
    assert (await room.get(first)).name == first  # only the id is forgotten


async def test_everything_old_is_forgotten_in_pieces(room: Room) -> None:
    await retention_of(room).forget_once()
    for _ in range(5):
        await room.creation.identify(ask_of(iin=f"{int.from_bytes(new_id().encode()) % 10**12:012d}"), ("name",))
    room.clock.pass_by(DAY_S + 60)
    requests = RequestStore(room.store._database)
    pieces = [await requests.forget(room.clock.now(), 2) for _ in range(4)]
    assert pieces == [2, 2, 1, 0]


def test_the_rooms_role_forgets_nothing_younger_whatever_time_it_says(made: local.Database) -> None:
    with psycopg.connect(made.url("auth_gateway"), autocommit=True) as connection:
        request_id = new_id()
        connection.execute(
            "INSERT INTO auth_gateway.request (application, method, request_id, digest, resource, created_at)"
            " VALUES ('a', 'm', %s, '', 'r', now() - interval '23 hours')",
            (request_id,),
        )
        late = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
        connection.execute("SELECT auth_gateway.forget_requests(%s, 1000000)", (late,))
        kept = connection.execute("SELECT 1 FROM auth_gateway.request WHERE request_id = %s", (request_id,))
        assert kept.fetchone() == (1,)


async def test_forgetting_goes_on_after_the_store_was_away(room: Room) -> None:
    class Away:
        calls = 0

        async def forget(self, at: datetime.datetime, at_most: int) -> int:
            self.calls += 1
            if self.calls == 1:
                raise DependencyUnavailableError("away")
            raise asyncio.CancelledError

    away = Away()
    with pytest.raises(asyncio.CancelledError):
        await Retention(away, room.clock.now, room.clock.sleep).run()
    assert away.calls == 2


async def test_duplicates_from_several_connections_make_one_authentication(edge: Edge) -> None:
    application = f"applications/{new_id()}"
    edge.room.portal.applications[application] = replace(edge.room.portal.applications[APPLICATION], name=application)
    asked, token = create(auth.CHANNEL_STEPS), edge.token(application)
    stubs = [edge.finid() for _ in range(6)]
    answers = await asyncio.gather(
        *(stub.CreateAuthentication(asked, metadata=token) for stub in stubs for _ in range(2))
    )
    assert {answer.name for answer in answers} == {answers[0].name}
    listed = await stubs[0].ListAuthentications(auth.ListAuthenticationsRequest(page_size=100), metadata=token)
    assert [item.name for item in listed.authentications] == [answers[0].name]
