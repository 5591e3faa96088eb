"""What the client sends: every method of the API as the protos have it, with what belongs to it."""

import base64
import hashlib
import inspect
from typing import Any

import pytest
from finid.auth.v1 import auth_pb2 as auth
from finid.esign.v1 import esign_pb2 as esign

from finid_client import AsyncClient, Client, Pending, ReturnRefusedError, calls, document
from finid_client.async_client import (
    AsyncAuthentications,
    AsyncCertificates,
    AsyncConsents,
    AsyncDocuments,
    AsyncSignatures,
    AsyncWebhookDeliveries,
)
from finid_client.calls import Beginning, Call
from finid_client.client import Authentications, Certificates, Consents, Documents, Signatures, WebhookDeliveries
from tests.client.fake import CAPTURE_URI, CERTIFICATE, DOCUMENT, NAME, ORDER, SIGNATURE, created, methods

PERSON: dict[str, Any] = {"iin": "930514400420", "phone": "+77000000001"}
HOSTED: dict[str, Any] = PERSON | {"redirect_uri": "https://bank.example/return"}
ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "start": ((), HOSTED | {"scopes": ["name"], "language": "kk"}),
    "start_steps": ((), PERSON),
    "get": ((NAME,), {}),
    "give_consents": ((NAME, [auth.Consent(id="x", version="1")]), {}),
    "start_liveness": ((NAME,), {}),
    "submit_frames": ((NAME, []), {}),
    "send_code": ((NAME,), {}),
    "verify_code": ((NAME, "123456"), {}),
    "cancel": ((NAME,), {}),
    "read_result": ((Pending(NAME, "", "s", "v"), "https://bank.example/return?state=s&code=c"), {}),
    "read_steps_result": ((NAME,), {}),
    "evidence": ((NAME,), {}),
    "issue": ((), HOSTED),
    "reissue": ((CERTIFICATE,), HOSTED),
    "get_order": ((ORDER,), {}),
    "revoke": ((CERTIFICATE,), HOSTED | {"reason": "key-compromise"}),
    "suspend": ((CERTIFICATE,), HOSTED),
    "resume": ((CERTIFICATE,), HOSTED),
    "get_change": (("certificateChanges/" + "e" * 26,), {}),
    "sign": ((CERTIFICATE, [document("Title", b"%PDF")]), HOSTED),
    "get_signature": ((SIGNATURE,), {}),
    "list_documents": ((), {}),
    "download": ((DOCUMENT,), {}),
    "verify": ((b"signed",), {"report_language": "ru"}),
    "list_authentications": ((), {}),
    "list_consents": ((), {}),
    "get_consent": (("consents/x",), {}),
    "withdraw_consent": (("consents/x",), {}),
    "get_consent_receipt": ((NAME,), {}),
    "list_certificates": ((), {}),
    "get_certificate": ((CERTIFICATE,), {}),
    "list_signatures": ((), {}),
    "get_document": ((DOCUMENT,), {}),
    "list_deliveries": ((), {}),
    "redeliver": (("webhookDeliveries/" + "f" * 26 + "-FINISHED",), {}),
    "receipt_keys": ((), {}),
}
# The stream, and what a relying party fetches with its own tools.
NOT_CALLED = {"Authenticate", "GetIssuingCrl", "GetRootCrl", "GetIssuingCertificate", "GetChain"}
NOT_CALLED |= {"Ocsp", "GetOcsp", "TimeStamp"}
MAY_HAPPEN_TWICE = {
    "withdraw_consent",
    "give_consents",
    "start_liveness",
    "submit_frames",
    "send_code",
    "verify_code",
    "cancel",
}


def built(name: str) -> Call[Any]:
    arguments, named = ARGUMENTS[name]
    made = getattr(calls, name)(*arguments, **named)
    return made.call if isinstance(made, Beginning) else made


def test_every_builder_is_tried_here() -> None:
    public = {name for name, value in vars(calls).items() if inspect.isfunction(value) and not name.startswith("_")}
    own = {name for name in public if getattr(calls, name).__module__ == calls.__name__}
    assert own - {"new_request_id"} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_call_is_one_of_the_proto(name: str) -> None:
    call = built(name)
    described = methods()[call.method]
    assert call.request.DESCRIPTOR.full_name == described.input_type.full_name
    assert call.answer.DESCRIPTOR.full_name == described.output_type.full_name


def test_every_method_of_the_proto_can_be_called() -> None:
    called = {built(name).method.rpartition("/")[2] for name in ARGUMENTS}
    assert called | NOT_CALLED == {method.name for method in methods().values()}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_is_repeated_after_an_error_does_nothing_twice(name: str) -> None:
    call = built(name)
    assert call.is_repeatable is (name not in MAY_HAPPEN_TWICE)
    if call.is_repeatable and "request_id" in call.request.DESCRIPTOR.fields_by_name:
        assert len(call.request.request_id) == 32  # type: ignore[attr-defined]


def test_each_logical_call_has_a_request_id_and_a_verifier_of_its_own() -> None:
    first, second = calls.start(**HOSTED), calls.start(**HOSTED)
    ids = {beginning.call.request.request_id for beginning in (first, second)}  # type: ignore[attr-defined]
    assert len(ids) == len({first.code_verifier, second.code_verifier}) == len({first.state, second.state}) == 2


def test_the_challenge_is_of_the_verifier_that_is_kept() -> None:
    begun = calls.issue(**HOSTED).begun(esign.CertificateOrder(name=ORDER, authentication=created()))
    assert (begun.pending.authentication, begun.pending.operation) == (NAME, ORDER)
    assert begun.capture_uri == CAPTURE_URI
    beginning = calls.issue(**HOSTED)
    digest = hashlib.sha256(beginning.code_verifier.encode()).digest()
    sent = beginning.call.request.return_to  # type: ignore[attr-defined]
    assert sent.code_challenge == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert (sent.state, sent.redirect_uri) == (beginning.state, HOSTED["redirect_uri"])


def test_nothing_secret_is_in_a_repr() -> None:
    pending = Pending(NAME, "", "the-state", "the-verifier")
    begun = calls.start(**HOSTED).begun(created())
    shown = repr(pending) + repr(begun)
    assert not [secret for secret in ("the-state", "the-verifier", begun.pending.code_verifier) if secret in shown]


def test_what_is_pending_survives_a_session_store() -> None:
    pending = calls.start(**HOSTED).begun(created()).pending
    assert Pending.load(pending.dump()) == pending


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"authentication": 1}', "null", '{"a": "b"}'])
def test_what_is_no_pending_authentication_is_refused(text: str) -> None:
    with pytest.raises(ReturnRefusedError):
        Pending.load(text)


@pytest.mark.parametrize(
    ("returned_to", "why"),
    [
        ("https://bank.example/return?code=c&state=other", "another state"),
        ("https://bank.example/return?code=c", "another state"),
        ("https://bank.example/return?code=c&state=s&state=s", "another state"),
        ("https://bank.example/return?state=s", "without a code"),
        ("https://bank.example/return?state=s&code=a&code=b", "without a code"),
        ("https://bank.example/return", "another state"),
    ],
)
def test_a_return_of_another_authentication_is_refused(returned_to: str, why: str) -> None:
    with pytest.raises(ReturnRefusedError, match=why):
        Pending(NAME, "", "s", "v").result_code(returned_to)


@pytest.mark.parametrize("returned_to", ["https://b.example/r?a=1&code=c&state=s", "?code=c&state=s", "state=s&code=c"])
def test_the_code_is_taken_from_the_address_or_its_query(returned_to: str) -> None:
    assert Pending(NAME, "", "s", "v").result_code(returned_to) == "c"


@pytest.mark.parametrize(
    ("ours", "twin"),
    [
        (Authentications, AsyncAuthentications),
        (Certificates, AsyncCertificates),
        (Signatures, AsyncSignatures),
        (Documents, AsyncDocuments),
        (Consents, AsyncConsents),
        (WebhookDeliveries, AsyncWebhookDeliveries),
        (Client, AsyncClient),
    ],
)
def test_both_clients_have_the_same_calls_with_the_same_arguments(ours: type, twin: type) -> None:
    def signatures(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(kind).items()
            if inspect.isfunction(value) and not name.startswith("_")
        }

    assert signatures(ours) == {name: found for name, found in signatures(twin).items() if name != "authenticate"}
