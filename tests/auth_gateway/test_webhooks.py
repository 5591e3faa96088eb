"""Webhooks, received by a real HTTPS server: every change is told, to nobody else, and no verdict is."""

import asyncio
import base64
import datetime
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from finid.auth.v1 import auth_pb2 as auth
from finid.pki.v1 import pki_pb2 as pki

from deploy.local import database as local
from mesh import base64url, metrics
from mesh.egress import Egress, Rule
from mesh.errors import Code, DependencyUnavailableError
from services.auth_gateway.authentication import Authentication, State
from services.auth_gateway.webhooks import Delivery, Event, Webhooks, event_id
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, APPLICATION, PERSON, refusal, unavailable
from tests.auth_gateway.room import Room, ask_of
from tests.bundles import IIN, PHONE
from tests.measured import Grown
from tests.mtls import Authority

pytestmark = pytest.mark.postgres

HOST = "receiver.finid.internal"
HERE = Rule(networks=(ip_network("127.0.0.0/8"),), schemes=frozenset({"https"}))
OK = "HTTP/1.1 204 No Content\r\n\r\n"
FAULT = "HTTP/1.1 500 Fault\r\nContent-Length: 0\r\n\r\n"
REDIRECT = f"HTTP/1.1 307 There\r\nLocation: https://{HOST}/other\r\nContent-Length: 0\r\n\r\n"
HUGE = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + "x" * 500_000
HANGS = ""
NOW = datetime.datetime(2026, 1, 5, 9, 30, tzinfo=datetime.UTC)


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, str]:
        data: dict[str, str] = json.loads(self.body)["data"]
        return data


@dataclass
class Receiver:
    """A bank's server; it answers as `says` has it, and as the last of them from then on."""

    url: str = ""
    says: list[str] = field(default_factory=lambda: [OK])
    received: list[Received] = field(default_factory=list)
    before_it_answers: Callable[[], None] = lambda: None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.received.append(Received(head[0].split(" ")[1], headers, body))
            self.before_it_answers()
            answer = self.says.pop(0) if len(self.says) > 1 else self.says[0]
            if answer == HANGS:
                await asyncio.sleep(30)
            writer.write(answer.encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def serving(self, certificate: Path, key: Path, host: str = HOST) -> AsyncIterator[None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.url = f"https://{host}:{server.sockets[0].getsockname()[1]}/finid/events?from=finid"
        try:
            yield
        finally:
            server.close()


async def here(_host: str, _port: int) -> Sequence[str]:
    return ("127.0.0.1",)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "bank").mkdir()
    return Authority(tmp_path / "bank")


@pytest.fixture
async def receiver(authority: Authority) -> AsyncIterator[Receiver]:
    made = Receiver()
    async with made.serving(*authority.issue("receiver")):
        yield made


@dataclass
class Bank:
    """An application with a webhook, and the gateway's sender."""

    room: Room
    receiver: Receiver
    authority: Authority

    def __post_init__(self) -> None:
        self.room.portal.becomes(webhook_uri=self.receiver.url)
        self.webhooks = self.process()

    def egress(
        self, rule: Rule = HERE, resolve: Callable[[str, int], Awaitable[Sequence[str]]] = here, timeout_s: float = 5.0
    ) -> Egress:
        trusted = ssl.create_default_context(cafile=str(self.authority.root_file))
        return Egress(rule, resolve=resolve, timeout_s=timeout_s, trusted=trusted)

    def process(self, egress: Egress | None = None, outbox: Any = None, chance: float = 0.0) -> Webhooks:
        """The sender of one more process."""
        return Webhooks(
            outbox=outbox or self.room.webhook_store,
            portal=self.room.portal,
            key=lambda: self.room.webhook_key,
            egress=egress or self.egress(),
            now=self.room.clock.now,
            chance=lambda: chance,
            sleep=self.room.clock.sleep,
        )

    async def cancelled(self) -> Authentication:
        """An authentication with one change to be told."""
        return await self.room.flow.cancel(await self.room.identify())

    async def delivery(self, item: Authentication, state: State = State.CANCELLED) -> Any:
        found = await self.room.webhook_store.told(item.application, item.name, state)
        assert found is not None
        return found


@pytest.fixture
def bank(room: Room, receiver: Receiver, authority: Authority, made: local.Database) -> Bank:
    with psycopg.connect(made.owner_url) as owner:
        owner.execute("DELETE FROM auth_gateway.webhook")
    return Bank(room, receiver, authority)


def states(receiver: Receiver) -> list[str]:
    return sorted(each.data["state"] for each in receiver.received)


async def test_every_change_of_state_is_told(bank: Bank) -> None:
    item = await bank.room.walk(await bank.room.identify(), State.FINISHED)
    await bank.webhooks.run_once()
    assert states(bank.receiver) == ["AWAITING_CODE", "AWAITING_LIVENESS", "COMPLETING", "FINISHED"]
    assert {each.data["authentication"] for each in bank.receiver.received} == {item.name}
    await bank.webhooks.run_once()
    assert len(bank.receiver.received) == 4  # each once


async def test_cancelling_and_expiring_are_told(bank: Bank) -> None:
    cancelled, expired = await bank.cancelled(), await bank.room.identify()
    bank.room.clock.pass_by(1000)
    await bank.room.completion.resume_once()
    await bank.webhooks.run_once()
    assert {(each.data["authentication"], each.data["state"]) for each in bank.receiver.received} == {
        (cancelled.name, "CANCELLED"),
        (expired.name, "EXPIRED"),
    }


async def test_success_and_failure_are_told_in_the_same_words_and_nothing_of_the_person_is(bank: Bank) -> None:
    succeeded = await bank.room.walk(await bank.room.identify(), State.FINISHED)
    bank.room.registry.fails("release", refusal("registry", Code.PERMISSION_DENIED, "FACTOR_MISSING"))
    failed = await bank.room.walk(await bank.room.identify(), State.FINISHED)
    await bank.webhooks.run_once()
    await bank.webhooks.run_once()
    said = {
        each.data["authentication"]: json.loads(each.body) for each in bank.receiver.received if "FINISHED" in str(each)
    }
    for item in (succeeded, failed):
        assert said[item.name].keys() == {"type", "timestamp", "data"}
        assert said[item.name]["data"] == {"authentication": item.name, "state": "FINISHED", "operation": ""}
    everything = b"".join(each.body for each in bank.receiver.received).decode()
    for secret in (*PERSON.values(), IIN, PHONE, "SUCCESS", "FAILURE", "OPERATION_REFUSED"):
        assert secret not in everything


async def test_what_an_authentication_is_done_for_is_named(bank: Bank) -> None:
    order = await bank.room.creation.issue(ask_of(), "individual-sign")
    operation = await bank.room.store.operation(order)
    assert operation is not None
    await bank.room.flow.cancel(await bank.room.get(operation.authentication))
    await bank.webhooks.run_once()
    assert bank.receiver.received[0].data["operation"] == order


async def test_an_application_without_a_webhook_is_told_nothing(bank: Bank, made: local.Database) -> None:
    bank.room.portal.becomes(webhook_uri="")
    await bank.cancelled()
    with psycopg.connect(made.owner_url) as owner:
        assert owner.execute("SELECT count(*) FROM auth_gateway.webhook").fetchone() == (0,)


async def test_a_change_that_does_not_happen_is_not_told(bank: Bank) -> None:
    item = await bank.cancelled()
    assert not await bank.room.store.cancel(item.name)
    assert not await bank.room.store.give_consents(item.name, bank.room.clock.now())
    await bank.webhooks.run_once()
    assert states(bank.receiver) == ["CANCELLED"]


def verified(received: Received, key: bytes) -> None:
    """What docs/webhooks.md tells a receiver to do."""
    signed = f"{received.headers['webhook-id']}.{received.headers['webhook-timestamp']}.".encode() + received.body
    version, _, encoded = received.headers["webhook-signature"].partition(",")
    assert version == "v1a"
    Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(encoded), signed)


async def test_the_message_is_verified_with_the_published_key(
    edge: Edge, receiver: Receiver, authority: Authority
) -> None:
    bank = Bank(edge.room, receiver, authority)
    item = await bank.cancelled()
    await bank.webhooks.run_once()
    received = next(each for each in receiver.received if each.data["authentication"] == item.name)
    keys = json.loads((await edge.pki().GetReceiptKeys(pki.GetReceiptKeysRequest())).data)["keys"]
    (key,) = (base64url.decode(found["x"]) for found in keys if found["finid_use"] == "webhook")
    verified(received, key)
    assert received.path == "/finid/events?from=finid"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["webhook-timestamp"] == str(int(bank.room.clock.now().timestamp()))
    assert not {"cookie", "authorization"} & received.headers.keys()
    for altered in (
        replace(received, body=received.body.replace(b"CANCELLED", b"FINISHED")),
        replace(received, headers=received.headers | {"webhook-timestamp": "1"}),
        replace(received, headers=received.headers | {"webhook-id": "another"}),
    ):
        with pytest.raises(InvalidSignature):
            verified(altered, key)
    with pytest.raises(InvalidSignature):  # a statement's key is no webhook's
        verified(received, edge.room.statement_key.public_key)


async def test_a_server_that_fails_gets_the_same_message_again_until_it_takes_it(bank: Bank) -> None:
    bank.receiver.says = [FAULT, FAULT, OK]
    item = await bank.cancelled()
    for passed_s in (0, 4, 1, 9, 1, 1000):
        bank.room.clock.pass_by(passed_s)
        await bank.webhooks.run_once()
    first, *others = bank.receiver.received
    assert len(others) == 2  # after 5 s and 10 s more; never again once it was taken
    for again in others:
        assert (again.body, again.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])
        verified(again, bank.room.webhook_key.public_key)
    assert len({each.headers["webhook-timestamp"] for each in bank.receiver.received}) == 3
    found = await bank.delivery(item)
    assert (found.delivery, found.attempts, found.status_code, found.problem) == (Delivery.DELIVERED, 3, 204, "")


async def test_attempts_are_counted_and_the_oldest_that_waits_is_shown(bank: Bank) -> None:
    outcomes = ("delivered", "failed", "given_up")
    counted = [Grown.of(metrics.WEBHOOK_DELIVERIES, outcome=outcome) for outcome in outcomes]
    bank.receiver.says = [FAULT, OK, "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"]
    await bank.cancelled()
    await bank.webhooks.run_once()
    bank.room.clock.pass_by(5)
    await bank.webhooks._look_at_backlog()
    assert metrics.WEBHOOK_OLDEST_PENDING.shown() is not None
    assert await bank.room.webhook_store.oldest_pending() is not None
    await bank.webhooks.run_once()
    assert [one.by() for one in counted] == [1, 1, 0]
    await bank.cancelled()
    await bank.webhooks.run_once()
    assert [one.by() for one in counted] == [1, 1, 1]
    await bank.webhooks._look_at_backlog()
    assert (await bank.room.webhook_store.oldest_pending(), metrics.WEBHOOK_OLDEST_PENDING.shown()) == (None, 0)


async def test_waits_double_less_up_to_half_by_chance_and_end_after_three_days(bank: Bank) -> None:
    bank.receiver.says = [FAULT]
    event = Event("authentications/x", State.FINISHED, APPLICATION, "", NOW, 1, 1, bank.room.clock.now())

    def waits_s(chance: float, tries: int) -> float:
        again_at = bank.process(chance=chance)._again_at(replace(event, tries=tries), 500)
        assert again_at is not None
        return (again_at - bank.room.clock.now()).total_seconds()

    assert [waits_s(0.0, tries) for tries in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert [waits_s(1.0, tries) for tries in (1, 2, 3, 4)] == [2.5, 5, 10, 20]
    assert waits_s(0.0, 500) == 6 * 3600
    item = await bank.cancelled()
    for _ in range(100):
        await bank.webhooks.run_once()
        bank.room.clock.pass_by(3600)
    found = await bank.delivery(item)
    assert (found.delivery, found.status_code, found.next_attempt_at) == (Delivery.GIVEN_UP, 500, None)
    assert 15 < found.attempts == len(bank.receiver.received) < 30


@pytest.mark.parametrize(
    ("answer", "status", "problem"), [(REDIRECT, 307, ""), (HANGS, 0, "NO_ANSWER"), ("SSH-2.0\r\n", 0, "NO_ANSWER")]
)
async def test_a_server_that_redirects_hangs_or_talks_nonsense_did_not_take_it(
    bank: Bank, answer: str, status: int, problem: str
) -> None:
    bank.receiver.says = [answer]
    item = await bank.cancelled()
    await bank.process(bank.egress(timeout_s=3.0 if answer == HANGS else 30.0)).run_once()
    found = await bank.delivery(item)
    assert (found.delivery, found.status_code, found.problem) == (Delivery.PENDING, status, problem)
    assert len(bank.receiver.received) == 1  # no redirect was followed


async def test_of_a_huge_answer_the_status_counts_and_the_rest_is_not_read(bank: Bank) -> None:
    bank.receiver.says = [HUGE]
    item = await bank.cancelled()
    await asyncio.wait_for(bank.webhooks.run_once(), 3)
    assert (await bank.delivery(item)).delivery is Delivery.DELIVERED


async def test_a_server_that_wants_no_more_is_left_alone(bank: Bank) -> None:
    bank.receiver.says = ["HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"]
    item = await bank.cancelled()
    await bank.webhooks.run_once()
    assert (await bank.delivery(item)).delivery is Delivery.GIVEN_UP


@pytest.mark.parametrize("addresses", [("10.0.0.1",), ("169.254.169.254",), ("127.0.0.1",), ("8.8.8.8", "10.0.0.1")])
async def test_a_name_that_leads_into_a_private_network_is_not_asked(bank: Bank, addresses: tuple[str, ...]) -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    item = await bank.cancelled()
    bank.room.portal.becomes(webhook_uri=f"https://{HOST}/events")
    strict = bank.egress(Rule(schemes=frozenset({"https"})), resolve)
    await bank.process(strict).run_once()
    assert (await bank.delivery(item)).problem == "ADDRESS_REFUSED"
    assert bank.receiver.received == []


async def test_a_name_is_resolved_once_for_an_attempt_so_that_rebinding_changes_nothing(bank: Bank) -> None:
    answers = iter([("127.0.0.1",), ("10.0.0.1",)])

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    item = await bank.cancelled()
    await bank.process(bank.egress(resolve=rebinding)).run_once()
    assert (await bank.delivery(item)).delivery is Delivery.DELIVERED
    assert next(answers) == ("10.0.0.1",)


@pytest.mark.parametrize("uri", ["http://{host}/", "https://user@{host}/", "https://{host}:99999/"])
async def test_an_address_that_is_no_https_address_is_not_asked(bank: Bank, uri: str) -> None:
    item = await bank.cancelled()
    bank.room.portal.becomes(webhook_uri=uri.format(host=HOST))
    await bank.webhooks.run_once()
    assert (await bank.delivery(item)).problem == "ADDRESS_REFUSED"


async def test_a_certificate_that_nobody_trusts_or_of_another_host_gets_nothing(bank: Bank) -> None:
    item = await bank.cancelled()
    distrusting = Egress(HERE, resolve=here, trusted=ssl.create_default_context())
    await bank.process(distrusting).run_once()
    assert (await bank.delivery(item)).problem == "NO_ANSWER"
    bank.room.portal.becomes(webhook_uri=bank.receiver.url.replace("receiver", "another"))
    bank.room.clock.pass_by(60)
    await bank.webhooks.run_once()
    assert (await bank.delivery(item)).problem == "NO_ANSWER"
    assert bank.receiver.received == []


async def test_a_corrected_address_gets_what_waits(bank: Bank) -> None:
    bank.room.portal.becomes(webhook_uri=f"https://{HOST}:1/")
    await bank.cancelled()
    await bank.webhooks.run_once()
    bank.room.portal.becomes(webhook_uri=bank.receiver.url)
    bank.room.clock.pass_by(6)
    await bank.webhooks.run_once()
    assert states(bank.receiver) == ["CANCELLED"]


@pytest.mark.parametrize("changed", [{"active": False}, {"webhook_uri": ""}])
async def test_an_application_that_is_suspended_or_has_no_webhook_any_more_is_told_nothing(
    bank: Bank, changed: dict[str, Any]
) -> None:
    item = await bank.cancelled()
    bank.room.portal.becomes(**changed)
    await bank.webhooks.run_once()
    found = await bank.delivery(item)
    assert (found.delivery, found.problem) == (Delivery.GIVEN_UP, "NO_ADDRESS")


async def test_while_the_portal_is_away_messages_wait(bank: Bank) -> None:
    item = await bank.cancelled()
    bank.room.portal.fails("application", unavailable("portal"))
    await bank.webhooks.run_once()
    assert (await bank.delivery(item)).problem == "NOT_SENT"
    bank.room.clock.pass_by(6)
    await bank.webhooks.run_once()
    assert (await bank.delivery(item)).delivery is Delivery.DELIVERED


class Dying:
    """An outbox of a process that dies between sending and recording."""

    def __init__(self, bank: Bank) -> None:
        self._store = bank.room.webhook_store
        self.lease, self.forget = self._store.lease, self._store.forget

    async def delivered(self, *_: object) -> bool:
        raise DependencyUnavailableError("killed")


async def test_a_process_killed_after_it_sent_leaves_a_message_that_goes_again_under_the_same_id(bank: Bank) -> None:
    item = await bank.cancelled()
    await bank.process(outbox=Dying(bank)).run_once()
    await bank.process().run_once()
    assert len(bank.receiver.received) == 1  # the lease still runs
    bank.room.clock.pass_by(61)
    await bank.process().run_once()
    first, second = bank.receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == event_id(item.name, State.CANCELLED)
    assert first.body == second.body
    assert (await bank.delivery(item)).attempts == 2


async def test_processes_at_once_send_each_message_once(bank: Bank) -> None:
    for _ in range(6):
        await bank.cancelled()
    for _ in range(3):
        await asyncio.gather(*(bank.process().run_once() for _ in range(4)))
    sent = Counter(each.headers["webhook-id"] for each in bank.receiver.received)
    assert sorted(sent.values()) == [1] * 6


async def test_a_late_process_records_nothing_over_the_one_that_came_after_it(bank: Bank) -> None:
    item = await bank.cancelled()
    clock, outbox = bank.room.clock, bank.room.webhook_store
    (late,) = await outbox.lease(clock.now(), clock.now() + datetime.timedelta(seconds=60), 9, (), 4)
    clock.pass_by(61)
    await bank.webhooks.run_once()
    assert not await outbox.failed(late, 500, "", None)
    assert (await bank.delivery(item)).delivery is Delivery.DELIVERED


async def test_a_crowd_of_one_application_leaves_room_for_another(bank: Bank) -> None:
    portal = bank.room.portal
    portal.applications[ANOTHER_APPLICATION] = replace(
        portal.applications[ANOTHER_APPLICATION], webhook_uri=bank.receiver.url
    )
    for _ in range(8):
        await bank.cancelled()
    other = await bank.room.flow.cancel(await bank.room.identify(ask_of(application=ANOTHER_APPLICATION)))
    await bank.webhooks.run_once()
    names = Counter(each.data["authentication"] == other.name for each in bank.receiver.received)
    assert names == {True: 1, False: 4}


async def test_a_message_that_breaks_its_sender_keeps_no_other_waiting(bank: Bank) -> None:
    broken, good = await bank.cancelled(), await bank.cancelled()
    bank.room.portal.fails("application", LookupError("broken"))
    await bank.webhooks.run_once()
    bank.room.clock.pass_by(61)
    await bank.webhooks.run_once()
    assert {(await bank.delivery(item)).delivery for item in (broken, good)} == {Delivery.DELIVERED}


async def test_messages_are_forgotten_after_thirty_days_unless_they_are_to_be_sent(
    bank: Bank, made: local.Database
) -> None:
    told_of, waits = await bank.cancelled(), await bank.room.flow.cancel(await bank.room.identify())
    bank.receiver.says = [OK, FAULT]
    await bank.webhooks.run_once()
    with psycopg.connect(made.owner_url) as owner:
        owner.execute("UPDATE auth_gateway.webhook SET changed_at = %s", [NOW - datetime.timedelta(days=31)])
    await bank.process().run_once()
    left = [
        item for item in (told_of, waits) if await bank.room.webhook_store.told(APPLICATION, item.name, State.CANCELLED)
    ]
    assert len(left) == 1


async def test_the_loop_sends_and_outlives_a_lost_database(bank: Bank) -> None:
    await bank.cancelled()
    outbox = bank.room.webhook_store
    sent = asyncio.Event()

    class Flaky:
        lost = 1
        forget, failed = outbox.forget, outbox.failed

        async def lease(self, *arguments: Any) -> Sequence[Event]:
            if self.lost:
                self.lost = 0
                raise DependencyUnavailableError("away")
            return await outbox.lease(*arguments)

        async def delivered(self, event: Event, status_code: int, at: datetime.datetime) -> bool:
            sent.set()
            return await outbox.delivered(event, status_code, at)

    task = asyncio.create_task(bank.process(outbox=Flaky()).run())
    await asyncio.wait_for(sent.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def listed(edge: Edge, application: str = APPLICATION, **asked: Any) -> auth.ListWebhookDeliveriesResponse:
    request = auth.ListWebhookDeliveriesRequest(**asked)
    return await edge.finid().ListWebhookDeliveries(request, metadata=edge.token(application))


async def test_deliveries_are_listed_page_by_page_to_their_application_alone(
    edge: Edge, receiver: Receiver, authority: Authority, made: local.Database
) -> None:
    with psycopg.connect(made.owner_url) as owner:
        owner.execute("DELETE FROM auth_gateway.webhook")
    bank = Bank(edge.room, receiver, authority)
    items = [await bank.cancelled() for _ in range(5)]
    receiver.says = [FAULT, OK]
    await bank.webhooks.run_once()
    first = await listed(edge, page_size=2)
    second = await listed(edge, page_size=2, page_token=first.next_page_token)
    third = await listed(edge, page_size=2, page_token=second.next_page_token)
    found = [each for page in (first, second, third) for each in page.webhook_deliveries]
    assert [each.authentication for each in found] == [item.name for item in reversed(items)]
    assert third.next_page_token == ""
    counts = Counter((each.state, each.last_status_code) for each in found)
    assert counts == {
        (auth.WEBHOOK_DELIVERY_STATE_DELIVERED, 204): 3,
        (auth.WEBHOOK_DELIVERY_STATE_PENDING, 500): 1,
        (auth.WEBHOOK_DELIVERY_STATE_PENDING, 0): 1,
    }
    assert not (await listed(edge, ANOTHER_APPLICATION)).webhook_deliveries
    token = first.next_page_token
    for application, wrong in ((ANOTHER_APPLICATION, token), (APPLICATION, token[:-2] + "AA"), (APPLICATION, "x")):
        error = await refused(listed(edge, application, page_token=wrong))
        assert (told(error), error.violations[0].field) == (("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"), "page_token")


async def test_a_webhook_is_sent_again_on_request_of_its_application(
    edge: Edge, receiver: Receiver, authority: Authority
) -> None:
    bank = Bank(edge.room, receiver, authority)
    item = await bank.cancelled()
    await bank.webhooks.run_once()
    name = f"webhookDeliveries/{event_id(item.name, State.CANCELLED)}"
    request = auth.RedeliverWebhookRequest(name=name)
    asked = await edge.finid().RedeliverWebhook(request, metadata=edge.token())
    assert (asked.name, asked.state, asked.attempts) == (name, auth.WEBHOOK_DELIVERY_STATE_PENDING, 1)
    await bank.webhooks.run_once()
    mine = [each for each in receiver.received if each.data["authentication"] == item.name]
    assert len(mine) == 2
    assert mine[0].headers["webhook-id"] == mine[1].headers["webhook-id"]
    for application, wrong in (
        (ANOTHER_APPLICATION, name),
        (APPLICATION, name.replace("CANCELLED", "FINISHED")),
        (APPLICATION, name.replace("CANCELLED", "NOTHING")),
    ):
        request = auth.RedeliverWebhookRequest(name=wrong)
        error = await refused(edge.finid().RedeliverWebhook(request, metadata=edge.token(application)))
        assert told(error) == ("NOT_FOUND", "WEBHOOK_DELIVERY_NOT_FOUND")


async def test_no_answer_of_a_server_is_kept(bank: Bank, made: local.Database) -> None:
    bank.receiver.says = ["HTTP/1.1 500 Secret-Reason\r\nX-Secret: header\r\nContent-Length: 6\r\n\r\nsecret"]
    await bank.cancelled()
    await bank.webhooks.run_once()
    with psycopg.connect(made.owner_url) as owner:
        rows = owner.execute("SELECT w::text FROM auth_gateway.webhook AS w").fetchall()
    assert "secret" not in str(rows).lower()
