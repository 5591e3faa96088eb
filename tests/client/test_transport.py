"""Tokens, deadlines, retries and errors, before a FinID that answers as it is told."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.auth.v1 import liveness_step_pb2 as step
from finid.esign.v1 import esign_pb2 as esign

from finid_client import (
    NO_RETRIES,
    AsyncClient,
    CallError,
    Client,
    ConfigurationError,
    Credentials,
    InvalidRequestError,
    NotAllowedError,
    NotAuthenticatedError,
    NotFinishedError,
    NotFoundError,
    Retries,
    TooManyError,
    UnavailableError,
    WrongStateError,
)
from finid_client.address import Address
from finid_client.errors import Refusal, call_error
from finid_client.retrying import Attempts
from tests.client.fake import CLIENT_ID, NAME, SECRET, FakeFinId, Refuse, body, created

PERSON: dict[str, Any] = {"iin": "930514400420", "phone": "+77000000001", "redirect_uri": "https://bank.example/return"}
AWAY = Refuse(grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", retry_after_s=0.05)
BUSY = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "WORKERS_BUSY", retry_after_s=0.05)
FULL = Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "CHECKS_EXHAUSTED")
NO_TOKEN = Refuse(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


@contextmanager
def client_of(finid: FakeFinId, **options: Any) -> Iterator[Client]:
    credentials = Credentials(CLIENT_ID, SECRET)
    made = Client(finid.address, credentials, ca_file=finid.ca_file, token_address=finid.token_address, **options)
    with made:
        yield made


def test_a_token_is_asked_for_once_and_sent_with_every_call(finid: FakeFinId, client: Client) -> None:
    finid.will("GetAuthentication", created())
    for _ in range(3):
        client.authentications.get(NAME)
    assert {call.metadata["authorization"] for call in finid.calls} == {"Bearer token-1"}
    ((basic, form),) = finid.token_requests
    # RFC 6749, 2.3.1: both are form-encoded first.
    assert base64.b64decode(basic.removeprefix("Basic ")) == b"bank%3Aof+the+tests:s3cret%2Fof%2Btests"
    assert form == "grant_type=client_credentials"


def test_threads_that_need_a_token_at_once_ask_for_one(finid: FakeFinId, client: Client) -> None:
    finid.will("GetAuthentication", created())
    threads = [threading.Thread(target=client.authentications.get, args=(NAME,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(finid.calls), len(finid.token_requests)) == (8, 1)


def test_a_token_that_runs_out_is_renewed_before_it_does(finid: FakeFinId, client: Client) -> None:
    finid.token_life_s = 1
    finid.will("GetAuthentication", created())
    client.authentications.get(NAME)
    source = client._transport._tokens
    source._now = lambda: 1e9
    client.authentications.get(NAME)
    assert [call.metadata["authorization"] for call in finid.calls] == ["Bearer token-1", "Bearer token-2"]


def test_a_refused_token_is_exchanged_for_a_new_one_once(finid: FakeFinId, client: Client) -> None:
    finid.will("CancelAuthentication", NO_TOKEN, created())
    client.authentications.cancel(NAME)
    assert [call.metadata["authorization"] for call in finid.calls] == ["Bearer token-1", "Bearer token-2"]
    finid.will("GetAuthentication", NO_TOKEN)
    with pytest.raises(NotAuthenticatedError):
        client.authentications.get(NAME)
    assert len(finid.seen("GetAuthentication")) == 2


def test_wrong_credentials_are_said_and_not_tried_again(finid: FakeFinId, client: Client) -> None:
    finid.token_answers.append((401, {"error": "invalid_client", "error_description": "no"}, {}))
    with pytest.raises(NotAuthenticatedError, match="invalid_client") as caught:
        client.authentications.get(NAME)
    assert SECRET not in str(caught.value)
    assert len(finid.token_requests) == 1


def test_a_portal_that_is_away_is_asked_again_whatever_the_call(finid: FakeFinId, client: Client) -> None:
    finid.token_answers.append((503, {"error": "temporarily_unavailable"}, {"Retry-After": "0"}))
    finid.will("SendCode", auth.CodeSent(masked_phone="+7"))
    assert client.authentications.send_code(NAME).masked_phone == "+7"
    assert (len(finid.token_requests), len(finid.calls)) == (2, 1)


def test_the_keys_are_fetched_without_a_token(finid: FakeFinId, client: Client) -> None:
    finid.will("GetReceiptKeys", body(b"{}"))
    assert client.receipt_keys() == b"{}"
    assert "authorization" not in finid.calls[0].metadata
    assert finid.token_requests == []


def test_a_create_call_is_repeated_under_the_same_request_id(finid: FakeFinId, client: Client) -> None:
    finid.will("CreateAuthentication", AWAY, BUSY, created())
    begun = client.authentications.start(**PERSON)
    sent = [call.request for call in finid.calls]
    assert len(sent) == 3
    assert sent[0] == sent[1] == sent[2]
    assert begun.pending.authentication == NAME


def test_a_step_is_not_repeated_when_nobody_knows_whether_it_was_done(finid: FakeFinId, client: Client) -> None:
    finid.will("VerifyCode", AWAY, created())
    with pytest.raises(UnavailableError) as caught:
        client.authentications.verify_code(NAME, "123456")
    assert caught.value.retry_after_s == 0.05
    assert len(finid.calls) == 1


def test_a_step_that_was_refused_before_it_began_is_repeated_when_finid_says(finid: FakeFinId, client: Client) -> None:
    finid.will("SubmitFrames", BUSY, step.LivenessStep(attempt=1))
    assert client.authentications.submit_frames(NAME, []).attempt == 1
    assert len(finid.calls) == 2


def test_what_waiting_does_not_help_is_not_repeated(finid: FakeFinId, client: Client) -> None:
    finid.will("GetAuthentication", FULL, created())
    with pytest.raises(TooManyError) as caught:
        client.authentications.get(NAME)
    assert (caught.value.reason, caught.value.retry_after_s) == ("CHECKS_EXHAUSTED", None)
    assert len(finid.calls) == 1


def test_attempts_are_counted_and_can_be_one(finid: FakeFinId) -> None:
    finid.will("GetAuthentication", AWAY)
    for retries, expected in ((Retries(attempts=3, first_s=0.01), 3), (NO_RETRIES, 1)):
        finid.calls.clear()
        with client_of(finid, retries=retries) as client, pytest.raises(UnavailableError):
            client.authentications.get(NAME)
        assert len(finid.calls) == expected


def test_every_call_has_a_deadline(finid: FakeFinId, client: Client) -> None:
    finid.will("GetAuthentication", created())
    client.authentications.get(NAME)
    assert 0 < finid.calls[0].time_remaining_s <= 10


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARGUMENT", InvalidRequestError),
        ("UNAUTHENTICATED", NotAuthenticatedError),
        ("PERMISSION_DENIED", NotAllowedError),
        ("NOT_FOUND", NotFoundError),
        ("ALREADY_EXISTS", WrongStateError),
        ("FAILED_PRECONDITION", WrongStateError),
        ("ABORTED", WrongStateError),
        ("RESOURCE_EXHAUSTED", TooManyError),
        ("UNAVAILABLE", UnavailableError),
        ("DEADLINE_EXCEEDED", UnavailableError),
        ("INTERNAL", CallError),
        ("UNIMPLEMENTED", CallError),
    ],
)
def test_an_error_has_the_type_that_says_what_to_do(finid: FakeFinId, code: str, kind: type[CallError]) -> None:
    finid.will("GetAuthentication", Refuse(grpc.StatusCode[code], "SOME_REASON", metadata=(("key", "value"),)))
    with client_of(finid, retries=NO_RETRIES) as client, pytest.raises(CallError) as caught:
        client.authentications.get(NAME)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason) == (code, "SOME_REASON")
    assert caught.value.metadata == {"key": "value"}


def test_wrong_fields_are_named(finid: FakeFinId, client: Client) -> None:
    wrong = (("subject.iin", "must be 12 digits"), ("subject.phone", "must be E.164"))
    finid.will("CreateAuthentication", Refuse(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", violations=wrong))
    with pytest.raises(InvalidRequestError, match=r"subject.iin: must be 12 digits; subject.phone") as caught:
        client.authentications.start(**PERSON)
    assert [(item.field, item.description) for item in caught.value.violations] == list(wrong)


def test_an_error_of_the_transport_itself_has_no_reason(finid: FakeFinId) -> None:
    finid.will("GetAuthentication", Refuse(grpc.StatusCode.NOT_FOUND))
    with client_of(finid) as client, pytest.raises(NotFoundError) as caught:
        client.authentications.get(NAME)
    assert (caught.value.reason, caught.value.message) == ("", "No.")


def test_nobody_listening_is_unavailable(finid: FakeFinId) -> None:
    credentials = Credentials(CLIENT_ID, SECRET)
    with Client("https://localhost:1", credentials, ca_file=finid.ca_file, retries=NO_RETRIES) as client:
        with pytest.raises(UnavailableError):
            client.receipt_keys()
        with pytest.raises(UnavailableError, match="oauth2/token"):
            client.authentications.get(NAME)


def test_a_server_of_another_root_is_not_believed(finid: FakeFinId) -> None:
    credentials = Credentials(CLIENT_ID, SECRET)
    with Client(finid.address, credentials, token_address=finid.token_address, retries=NO_RETRIES) as client:
        with pytest.raises(UnavailableError):
            client.receipt_keys()
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            client.authentications.get(NAME)
    assert (finid.calls, finid.token_requests) == ([], [])


def test_watching_yields_each_state_once_and_ends_with_the_last(finid: FakeFinId, client: Client) -> None:
    states = [1, 1, 2, 3, 5]
    finid.will("GetAuthentication", *(auth.Authentication(name=NAME, state=state) for state in states))  # type: ignore[arg-type]
    client._transport._sleep = lambda _: None
    assert [item.state for item in client.authentications.watch(NAME)] == [1, 2, 3, 5]


def test_waiting_ends_when_the_time_is_up(finid: FakeFinId, client: Client) -> None:
    finid.will("GetSignature", esign.Signature(state=esign.OPERATION_STATE_PENDING))
    with pytest.raises(NotFinishedError, match="PENDING"):
        client.signatures.wait("signatures/x", timeout_s=0.1)


def test_all_pages_are_listed(finid: FakeFinId, client: Client) -> None:
    def page(request: esign.ListDocumentsRequest) -> esign.ListDocumentsResponse:
        number = int(request.page_token or "0")
        following = str(number + 1) if number < 2 else ""
        return esign.ListDocumentsResponse(
            documents=[esign.Document(name=f"documents/{number}")], next_page_token=following
        )

    finid.will("ListDocuments", page)
    assert [item.name for item in client.documents.list(page_size=1)] == [f"documents/{number}" for number in range(3)]


async def test_the_asynchronous_client_does_the_same(finid: FakeFinId) -> None:
    credentials = Credentials(CLIENT_ID, SECRET)
    finid.will("CreateAuthentication", AWAY, BUSY, created())
    finid.will("GetAuthentication", created(), auth.Authentication(state=auth.AUTHENTICATION_STATE_FINISHED))
    finid.will("CancelAuthentication", NO_TOKEN, created())
    finid.will("VerifyCode", AWAY)
    finid.will("ListDocuments", esign.ListDocumentsResponse(documents=[esign.Document(name="documents/0")]))
    finid.will("GetReceiptKeys", body(b"{}"))
    async with AsyncClient(
        finid.address, credentials, ca_file=finid.ca_file, token_address=finid.token_address
    ) as client:
        begun = await client.authentications.start(**PERSON)
        assert (await client.authentications.wait(begun.pending.authentication)).state == 5
        await client.authentications.cancel(NAME)
        with pytest.raises(UnavailableError):
            await client.authentications.verify_code(NAME, "123456")
        assert [item.name async for item in client.documents.list()] == ["documents/0"]
        assert await client.receipt_keys() == b"{}"
    assert len(finid.seen("CreateAuthentication")) == 3
    assert len(finid.seen("VerifyCode")) == 1
    assert len(finid.token_requests) == 2


async def test_tasks_that_need_a_token_at_once_ask_for_one(finid: FakeFinId) -> None:
    finid.will("GetAuthentication", created())
    credentials = Credentials(CLIENT_ID, SECRET)
    async with AsyncClient(
        finid.address, credentials, ca_file=finid.ca_file, token_address=finid.token_address
    ) as client:
        await asyncio.gather(*(client.authentications.get(NAME) for _ in range(8)))
    assert (len(finid.calls), len(finid.token_requests)) == (8, 1)


async def test_a_device_does_all_in_one_stream(finid: FakeFinId) -> None:
    consent = auth.ConsentText(id="personal-data", version="1", text="I agree")
    finid.will(
        "Authenticate",
        auth.AuthenticateResponse(authentication=created(consents=[consent])),
        auth.AuthenticateResponse(authentication=created()),
        auth.AuthenticateResponse(liveness=step.LivenessStep(state=step.LIVENESS_STATE_RUNNING)),
        auth.AuthenticateResponse(liveness=step.LivenessStep(state=step.LIVENESS_STATE_PASSED)),
        auth.AuthenticateResponse(code_sent=auth.CodeSent(masked_phone="+7")),
        auth.AuthenticateResponse(result=auth.AuthenticationResult(verdict=auth.VERDICT_SUCCESS)),
    )
    credentials = Credentials(CLIENT_ID, SECRET)
    person: dict[str, Any] = {"iin": PERSON["iin"], "phone": PERSON["phone"]}
    async with (
        AsyncClient(finid.address, credentials, ca_file=finid.ca_file, token_address=finid.token_address) as client,
        client.authentications.authenticate(**person, scopes=["name"]) as session,
    ):
        assert session.authentication.name == NAME
        await session.give_consents()
        assert (await session.start_liveness()).state == step.LIVENESS_STATE_RUNNING
        assert (await session.submit_frames([step.Frame(jpeg=b"x")])).state == step.LIVENESS_STATE_PASSED
        assert (await session.send_code()).masked_phone == "+7"
        assert (await session.verify_code("123456")).verdict == auth.VERDICT_SUCCESS
    steps = [call.request.WhichOneof("step") for call in finid.calls]
    assert steps == ["create", "give_consents", "start_liveness", "frames", "send_code", "verify_code"]
    assert finid.calls[0].request.create.channel == auth.CHANNEL_STREAM
    assert finid.calls[0].request.create.request_id == session.request_id
    assert finid.calls[1].request.give_consents.consents == [auth.Consent(id="personal-data", version="1")]


async def test_a_refused_step_ends_the_stream_with_its_error(finid: FakeFinId) -> None:
    finid.will("Authenticate", auth.AuthenticateResponse(authentication=created()), FULL)
    credentials = Credentials(CLIENT_ID, SECRET)
    async with (
        AsyncClient(finid.address, credentials, ca_file=finid.ca_file, token_address=finid.token_address) as client,
        client.authentications.authenticate(iin="930514400420", phone="+77000000001") as session,
    ):
        with pytest.raises(TooManyError, match="CHECKS_EXHAUSTED"):
            await session.verify_code("123456")
        with pytest.raises(TooManyError):
            await session.send_code()


@pytest.mark.parametrize(
    ("asked", "is_repeatable", "draws", "expected"),
    [
        (("UNAVAILABLE", None), True, 1.0, [0.2, 0.4, 0.8, 1.6]),
        (("UNAVAILABLE", None), True, 0.0, [0.0, 0.0, 0.0, 0.0]),
        (("UNAVAILABLE", 2.0), True, 0.0, [2.0, 2.0, 2.0, 2.0]),
        (("UNAVAILABLE", 2.0), False, 0.0, []),
        (("RESOURCE_EXHAUSTED", 1.0), False, 1.0, [1.25, 1.25, 1.25, 1.25]),
        (("RESOURCE_EXHAUSTED", 60.0), False, 1.0, []),
        (("DEADLINE_EXCEEDED", None), True, 0.0, []),
        (("INTERNAL", None), True, 0.0, []),
        (("ABORTED", None), True, 0.0, []),
    ],
)
def test_pauses(asked: tuple[str, float | None], is_repeatable: bool, draws: float, expected: list[float]) -> None:
    error = call_error("M", Refusal(asked[0], retry_after_s=asked[1]))
    attempts = Attempts(
        Retries(), 20.0, is_repeatable=is_repeatable, now=lambda: 0.0, draw=lambda low, high: low + draws * (high - low)
    )
    pauses = [attempts.pause_s(error) for _ in expected]
    with pytest.raises(CallError):
        attempts.pause_s(error)
    assert pauses == pytest.approx(expected)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost",
        "localhost:1",
        "https://",
        "https://host/path",
        "https://u@host",
        "https://host:x",
        "https://host:99999",
        "https://host?q",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        Address(address)


@pytest.mark.parametrize(
    ("address", "target"),
    [("https://host", "host:443"), ("https://host:8443/", "host:8443"), ("https://[::1]:1", "[::1]:1")],
)
def test_the_same_address_for_grpc(address: str, target: str) -> None:
    assert Address(address).target == target
