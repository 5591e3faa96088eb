"""Consents over the wire: who may list and withdraw them, and that no personal data leaves without a live one."""

import asyncio
import contextlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.capture.v1 import capture_pb2 as page
from google.protobuf.message import Message

from mesh import metrics
from mesh.status import PeerError
from tests.auth_gateway.edge import Edge, refused, told
from tests.auth_gateway.fakes import ANOTHER_APPLICATION, OTHERS_IIN, PERSON
from tests.auth_gateway.room import VERIFIER
from tests.auth_gateway.visits import HostedPage, Stream, consents, create, entered, read
from tests.bundles import IIN, PHONE
from tests.measured import Grown

pytestmark = pytest.mark.postgres

NO_CONSENT = ("NOT_FOUND", "CONSENT_NOT_FOUND")
NO_FACTORS = ("FAILED_PRECONDITION", "FACTORS_NOT_PASSED")
NO_SESSION = ("UNAUTHENTICATED", "CAPTURE_SESSION_INVALID")


class Visit:
    """One authentication on the hosted page, up to the end."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.page = HostedPage(edge)

    async def begin(self, iin: str = IIN, application: str = "") -> "Visit":
        self.token = self.edge.token(application) if application else self.edge.token()
        asked = create(subject=auth.Subject(iin=iin, phone=PHONE))
        self.created = await self.edge.finid().CreateAuthentication(asked, metadata=self.token)
        self.shown = await self.page.open(self.created.capture_uri)
        return self

    async def end(self) -> "Visit":
        uri = await self.page.walk(self.shown)
        self.code = parse_qs(urlsplit(uri).query)["code"][0]
        return self

    def consent(self, document: str = "personal-data") -> str:
        return f"consents/{self.created.name.removeprefix('authentications/')}-{document}"

    async def listed(self) -> list[str]:
        answer = await self.page.call("ListMyConsents", page.ListMyConsentsRequest(page_size=100))
        return [consent.name for consent in answer.consents]

    async def withdraws(self, name: str) -> auth.GivenConsent:
        answer: auth.GivenConsent = await self.page.call("WithdrawConsent", page.WithdrawConsentRequest(name=name))
        return answer

    async def result(self) -> auth.AuthenticationResult:
        asked = auth.ReadResultRequest(name=self.created.name, result_code=self.code, code_verifier=VERIFIER)
        return await self.edge.finid().ReadResult(asked, metadata=self.token)

    async def evidence(self) -> auth.Evidence:
        asked = auth.GetEvidenceRequest(name=self.created.name)
        return await self.edge.finid().GetEvidence(asked, metadata=self.token)


def holds_person(message: Message) -> bool:
    return any(value in str(message) for value in (*PERSON.values(), PHONE))


async def test_a_person_sees_and_withdraws_and_the_bank_reads_the_verdict_without_her_data(edge: Edge) -> None:
    visit = await (await Visit(edge).begin()).end()
    before = await visit.result()
    assert holds_person(before)
    assert (await visit.evidence()).bundle.openings.iin == IIN
    assert await visit.listed() == [visit.consent("personal-data"), visit.consent("biometric-data")]

    withdrawn = await visit.withdraws(visit.consent())
    assert (withdrawn.withdrawn_by, withdrawn.text) == (auth.WITHDRAWN_BY_PERSON, visit.shown.consents[0].text)
    assert withdrawn.text_sha256 == visit.shown.consents[0].text_sha256
    assert withdrawn.controller == visit.shown.consents[0].controller == auth.CONSENT_CONTROLLER_APPLICATION
    assert withdrawn.controller_title == visit.shown.consents[0].controller_title == "Демо Банк"
    assert await visit.listed() == [visit.consent("biometric-data")]
    assert await visit.withdraws(visit.consent()) == withdrawn

    result = await visit.result()
    assert (result.verdict, result.reason) == (auth.VERDICT_SUCCESS, "")
    assert not result.HasField("person")
    assert result.consent_withdraw_time == withdrawn.withdraw_time
    assert not before.HasField("consent_withdraw_time")
    assert before.consent_receipt != result.consent_receipt
    evidence = await visit.evidence()
    assert not evidence.bundle.HasField("openings")
    assert (len(evidence.bundle.receipts), evidence.bundle.transaction != b"") == (4, True)
    assert not any(map(holds_person, (result, evidence)))


async def test_the_receipt_comes_with_the_result_and_by_itself(edge: Edge) -> None:
    visit = await Visit(edge).begin()
    asked = auth.GetConsentReceiptRequest(name=visit.created.name)
    finid: Any = edge.finid()
    assert told(await refused(finid.GetConsentReceipt(asked, metadata=visit.token))) == NO_CONSENT
    await visit.end()
    receipt = await finid.GetConsentReceipt(asked, metadata=visit.token)
    assert receipt.name == visit.created.name
    assert (await visit.result()).consent_receipt == receipt.consent_receipt != ""
    others = edge.token(ANOTHER_APPLICATION)
    assert told(await refused(finid.GetConsentReceipt(asked, metadata=others)))[1] == "AUTHENTICATION_NOT_FOUND"


async def test_the_stream_ends_with_the_receipt(edge: Edge) -> None:
    stream = Stream(edge)
    name = await stream.up_to_the_code(create(auth.CHANNEL_STREAM))
    await stream.ask(verify_code=entered())
    result = (await stream.hears()).result
    asked = auth.GetConsentReceiptRequest(name=name)
    receipt = await edge.finid().GetConsentReceipt(asked, metadata=edge.token())
    assert result.consent_receipt == receipt.consent_receipt != ""


async def test_another_persons_session_neither_sees_nor_withdraws(edge: Edge) -> None:
    edge.room.registry.people[OTHERS_IIN] = PERSON | {"iin": OTHERS_IIN}
    hers = await (await Visit(edge).begin()).end()
    other = await (await Visit(edge).begin(OTHERS_IIN)).end()
    assert set(await other.listed()) == {other.consent(), other.consent("biometric-data")}
    assert told(await refused(other.withdraws(hers.consent()))) == NO_CONSENT
    assert holds_person(await hers.result())


async def test_a_session_is_needed_and_both_factors_in_it(edge: Edge) -> None:
    hers = await (await Visit(edge).begin()).end()
    stranger = HostedPage(edge)
    withdraw = page.WithdrawConsentRequest(name=hers.consent())
    assert told(await refused(stranger.call("ListMyConsents", page.ListMyConsentsRequest()))) == NO_SESSION
    assert told(await refused(stranger.call("WithdrawConsent", withdraw))) == NO_SESSION
    unfinished = await Visit(edge).begin()  # about her, by whoever knows her IIN
    assert told(await refused(unfinished.listed())) == NO_FACTORS
    assert told(await refused(unfinished.withdraws(hers.consent()))) == NO_FACTORS
    await unfinished.page.call("GiveConsents", page.GiveConsentsRequest(consents=consents(unfinished.shown)))
    assert told(await refused(unfinished.withdraws(unfinished.consent()))) == NO_FACTORS
    assert holds_person(await hers.result())


async def test_an_application_lists_and_withdraws_its_own_and_no_other(edge: Edge) -> None:
    visit = await (await Visit(edge).begin()).end()
    finid, others = edge.finid(), edge.token(ANOTHER_APPLICATION)
    withdraw = auth.WithdrawConsentRequest(name=visit.consent())
    assert told(await refused(finid.WithdrawConsent(withdraw, metadata=others))) == NO_CONSENT
    assert told(await refused(finid.GetConsent(auth.GetConsentRequest(name=visit.consent()), metadata=others))) == (
        NO_CONSENT
    )
    listed = await finid.ListConsents(auth.ListConsentsRequest(page_size=100), metadata=others)
    assert visit.consent() not in {consent.name for consent in listed.consents}
    assert holds_person(await visit.result())

    assert (await finid.WithdrawConsent(withdraw, metadata=visit.token)).withdrawn_by == auth.WITHDRAWN_BY_APPLICATION
    found = await finid.GetConsent(auth.GetConsentRequest(name=visit.consent()), metadata=visit.token)
    asked = auth.ListConsentsRequest(filter=auth.CONSENT_FILTER_WITHDRAWN)
    assert found in (await finid.ListConsents(asked, metadata=visit.token)).consents
    asked = auth.ListConsentsRequest(filter=auth.CONSENT_FILTER_LIVE, page_size=100)
    assert found not in (await finid.ListConsents(asked, metadata=visit.token)).consents
    assert not holds_person(await visit.result())


async def test_a_person_withdraws_what_another_application_has_and_that_one_reads_no_more(edge: Edge) -> None:
    before = await (await Visit(edge).begin(application=ANOTHER_APPLICATION)).end()
    now = await (await Visit(edge).begin()).end()
    assert before.consent() in await now.listed()
    await now.withdraws(before.consent())
    assert not holds_person(await before.result())
    assert holds_person(await now.result())


@pytest.mark.parametrize("delay_s", [0, 0.002, 0.005, 0.01])
async def test_no_reading_that_begins_after_the_withdrawal_has_her_data(edge: Edge, delay_s: float) -> None:
    visit = await (await Visit(edge).begin()).end()
    over = False
    seen: list[tuple[bool, auth.AuthenticationResult]] = []

    async def reads() -> None:
        while not (seen and seen[-1][0]):
            begun_after = over
            with contextlib.suppress(PeerError):
                seen.append((begun_after, await visit.result()))

    async def withdraws() -> None:
        nonlocal over
        await asyncio.sleep(delay_s)
        await visit.withdraws(visit.consent())
        over = True

    await asyncio.gather(withdraws(), *(reads() for _ in range(4)))
    for begun_after, result in seen:
        assert holds_person(result) is not result.HasField("consent_withdraw_time")
        assert not (begun_after and holds_person(result))


async def test_a_withdrawal_while_the_result_is_being_read_leaves_nothing_of_her_to_answer(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = await (await Visit(edge).begin()).end()
    read_result = edge.room.results.read

    async def meanwhile(*asked: Any) -> None:
        await read_result(*asked)
        await visit.withdraws(visit.consent())

    monkeypatch.setattr(edge.room.results, "read", meanwhile)
    result = await visit.result()
    assert result.HasField("consent_withdraw_time")
    assert not holds_person(result)


async def test_what_a_participant_reads_of_an_authentication_that_a_withdrawal_ended(edge: Edge) -> None:
    finid: Any = edge.finid()
    created = await finid.CreateAuthentication(create(auth.CHANNEL_STEPS), metadata=edge.token())
    given = auth.GiveConsentsRequest(name=created.name, consents=consents(created))
    await finid.GiveConsents(given, metadata=edge.token())
    name = f"consents/{created.name.removeprefix('authentications/')}-biometric-data"
    labels = {"purpose": "IDENTIFY", "verdict": "FAILURE", "reason": "CONSENT_WITHDRAWN"}
    ended = Grown.of(metrics.AUTHENTICATIONS_FINISHED, **labels)
    for _ in range(2):  # again: nothing is withdrawn, and nothing counted
        await finid.WithdrawConsent(auth.WithdrawConsentRequest(name=name), metadata=edge.token())
    assert ended.by() == 1
    start = auth.StartLivenessRequest(name=created.name)
    assert told(await refused(finid.StartLiveness(start, metadata=edge.token()))) == (
        "FAILED_PRECONDITION",
        "WRONG_STATE",
    )
    result = await read(edge, created.name, "")
    assert (result.verdict, result.reason) == (auth.VERDICT_FAILURE, "CONSENT_WITHDRAWN")
    assert result.HasField("consent_withdraw_time")
    assert result.consent_receipt != ""
