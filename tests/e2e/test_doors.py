"""gRPC, REST and gRPC-Web give the same answers and the same errors: code, reason, text, broken rules, patience."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from finid.auth.v1 import auth_pb2
from finid.esign.v1 import esign_pb2
from finid.pki.v1 import pki_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor

from services.portal.sandbox import DEFAULT_REDIRECT_URI
from tests.e2e.doors import Answer, Doors, doors_of
from tests.mesh_process import RunningMesh

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(180)]

SERVICES = {
    name: service
    for file in (auth_pb2, esign_pb2, pki_pb2)
    for name, service in file.DESCRIPTOR.services_by_name.items()
}
NOBODYS = "a" * 26
SUBJECT = {"iin": "900101300017", "phone": "+77010000001"}
HOSTED = {"redirectUri": DEFAULT_REDIRECT_URI, "state": "s", "codeChallenge": "a" * 43}


@dataclass(frozen=True, slots=True)
class Scene:
    """An authentication that waits for consents, as its participant sees it, and tokens."""

    bank: str
    name: str
    consents: list[dict[str, str]]
    create: dict[str, Any]


NO_CONSENT = f"consents/{'a' * 26}-personal-data"


@dataclass(frozen=True, slots=True)
class Case:
    """A call, by service and method; `request` is made from the scene."""

    call: str
    request: Callable[[Scene], dict[str, Any]]
    code: str
    reason: str = ""
    token: Callable[[Scene], str | None] = lambda scene: scene.bank

    @property
    def method(self) -> MethodDescriptor:
        service, _, name = self.call.partition(".")
        method: MethodDescriptor = SERVICES[service].methods_by_name[name]
        return method


def fixed(**fields: Any) -> Callable[[Scene], dict[str, Any]]:
    return lambda _: fields


def its(**fields: Any) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {"name": scene.name, **fields}


def create(**changed: Any) -> Callable[[Scene], dict[str, Any]]:
    def made(scene: Scene) -> dict[str, Any]:
        fields = scene.create | {"requestId": "new-request-of-no-other"} | changed
        return {name: value for name, value in fields.items() if value is not None}

    return made


def esign(**changed: Any) -> Callable[[Scene], dict[str, Any]]:
    def made(_: Scene) -> dict[str, Any]:
        asked = {
            "requestId": "esign-request-of-no-other",
            "subject": SUBJECT,
            "returnTo": HOSTED,
        }
        return {name: value for name, value in (asked | changed).items() if value is not None}

    return made


def nobody(_: Scene) -> None:
    return None


def forged(scene: Scene) -> str:
    return scene.bank[:-4] + ("AAAA" if not scene.bank.endswith("AAAA") else "BBBB")


GET, SIGN = "FinIdService.GetAuthentication", "ESignService.CreateSignature"
CREATE, ISSUE = "FinIdService.CreateAuthentication", "ESignService.IssueCertificate"
CASES = {
    # What is right.
    "an authentication": Case(GET, its(), "OK"),
    "the repeat of a create": Case(CREATE, lambda scene: scene.create, "OK"),
    "an empty list of documents": Case("ESignService.ListDocuments", fixed(), "OK"),
    "a page of one document": Case("ESignService.ListDocuments", fixed(pageSize=1), "OK"),
    "an empty list of webhooks": Case("FinIdService.ListWebhookDeliveries", fixed(), "OK"),
    "the issuing CA's list": Case("PkiService.GetIssuingCrl", fixed(), "OK", token=nobody),
    "the root's list": Case("PkiService.GetRootCrl", fixed(), "OK", token=nobody),
    "the issuing CA": Case("PkiService.GetIssuingCertificate", fixed(), "OK", token=nobody),
    "the chain": Case("PkiService.GetChain", fixed(), "OK", token=nobody),
    "the receipts' keys": Case("PkiService.GetReceiptKeys", fixed(), "OK", token=nobody),
    "the report on what is no signature at all": Case("ESignService.VerifyDocument", fixed(signed="AAAA"), "OK"),
    "the authentications that wait for consents": Case(
        "FinIdService.ListAuthentications", fixed(state="AUTHENTICATION_STATE_AWAITING_CONSENTS", pageSize=2), "OK"
    ),
    "an empty list of certificates": Case("ESignService.ListCertificates", fixed(), "OK"),
    "an empty list of signatures": Case("ESignService.ListSignatures", fixed(pageSize=100), "OK"),
    # Who calls.
    "no token": Case(GET, its(), "UNAUTHENTICATED", "ACCESS_TOKEN_REQUIRED", nobody),
    "a forged token": Case(GET, its(), "UNAUTHENTICATED", "ACCESS_TOKEN_REQUIRED", forged),
    "no token for documents": Case(
        "ESignService.ListDocuments", fixed(), "UNAUTHENTICATED", "ACCESS_TOKEN_REQUIRED", nobody
    ),
    # What is not there, or somebody else's.
    "an unknown authentication": Case(
        GET, fixed(name=f"authentications/{NOBODYS}"), "NOT_FOUND", "AUTHENTICATION_NOT_FOUND"
    ),
    "the end of an unknown one": Case(
        "FinIdService.CancelAuthentication",
        fixed(name=f"authentications/{NOBODYS}"),
        "NOT_FOUND",
        "AUTHENTICATION_NOT_FOUND",
    ),
    "an unknown order": Case(
        "ESignService.GetCertificateOrder",
        fixed(name=f"certificateOrders/{NOBODYS}"),
        "NOT_FOUND",
        "OPERATION_NOT_FOUND",
    ),
    "an unknown change": Case(
        "ESignService.GetCertificateChange",
        fixed(name=f"certificateChanges/{NOBODYS}"),
        "NOT_FOUND",
        "OPERATION_NOT_FOUND",
    ),
    "an unknown signature": Case(
        "ESignService.GetSignature", fixed(name=f"signatures/{NOBODYS}"), "NOT_FOUND", "OPERATION_NOT_FOUND"
    ),
    "an unknown document": Case(
        "ESignService.DownloadDocument", fixed(name=f"documents/{NOBODYS}"), "NOT_FOUND", "DOCUMENT_NOT_FOUND"
    ),
    "an unknown webhook": Case(
        "FinIdService.RedeliverWebhook",
        fixed(name=f"webhookDeliveries/{NOBODYS}-FINISHED"),
        "NOT_FOUND",
        "WEBHOOK_DELIVERY_NOT_FOUND",
    ),
    "what an unknown document is": Case(
        "ESignService.GetDocument", fixed(name=f"documents/{NOBODYS}"), "NOT_FOUND", "DOCUMENT_NOT_FOUND"
    ),
    "an unknown certificate": Case(
        "ESignService.GetCertificate", fixed(name="certificates/abc"), "NOT_FOUND", "CERTIFICATE_NOT_FOUND"
    ),
    "a signature with a certificate that nobody has": Case(
        SIGN,
        esign(
            certificate="certificates/abc",
            documents=[
                {
                    "title": "t",
                    "content": "AAAA",
                    "format": "SIGNATURE_FORMAT_CADES_DETACHED",
                    "level": "SIGNATURE_LEVEL_B_B",
                }
            ],
        ),
        "NOT_FOUND",
        "CERTIFICATE_NOT_FOUND",
    ),
    # What breaks a rule.
    "an empty create": Case(CREATE, fixed(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "an IIN of eleven digits": Case(
        CREATE, create(subject=SUBJECT | {"iin": "90010130001"}), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "an IIN whose last digit does not check the others": Case(
        CREATE, create(subject=SUBJECT | {"iin": "900101300018"}), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "a phone of a country that is not served": Case(
        CREATE, create(subject=SUBJECT | {"phone": "+4915123456789"}), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "a phone without its plus": Case(
        CREATE, create(subject=SUBJECT | {"phone": "77010000001"}), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "no channel": Case(CREATE, create(channel=None), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "a channel that is none yet": Case(CREATE, create(channel=77), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "a scope twice": Case(CREATE, create(scopes=["SCOPE_NAME", "SCOPE_NAME"]), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "a short request id": Case(CREATE, create(requestId="short"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "several rules at once": Case(
        CREATE,
        create(requestId="", subject={"iin": "x", "phone": "x"}, channel=None),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
    ),
    "the hosted page without a way back": Case(
        CREATE, create(channel="CHANNEL_HOSTED"), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "a way back that is not registered": Case(
        CREATE,
        create(channel="CHANNEL_HOSTED", returnTo=HOSTED | {"redirectUri": "https://evil.example/"}),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
    ),
    "rules of the proto and others at once": Case(
        ISSUE,
        esign(subject={"iin": "900101300018", "phone": "+4915123456789"}, profile="gold", returnTo={"state": "s"}),
        "INVALID_ARGUMENT",
        "INVALID_REQUEST",
    ),
    "no consents": Case("FinIdService.GiveConsents", its(consents=[]), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "no frames": Case("FinIdService.SubmitFrames", its(frames=[]), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "a code of letters": Case("FinIdService.VerifyCode", its(code="abcdef"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "a page of minus one": Case(
        "ESignService.ListDocuments", fixed(pageSize=-1), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "a page token of nobody's": Case(
        "ESignService.ListDocuments", fixed(pageToken="AAAA"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"
    ),
    "a page token of nobody's, for webhooks": Case(
        "FinIdService.ListWebhookDeliveries", fixed(pageToken="AAAA"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"
    ),
    "a page token of nobody's, for consents": Case(
        "FinIdService.ListConsents", fixed(pageToken="AAAA"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"
    ),
    "a consent's name that is none": Case(
        "FinIdService.GetConsent", fixed(name="consents/mine"), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "a consent of nobody": Case("FinIdService.GetConsent", fixed(name=NO_CONSENT), "NOT_FOUND", "CONSENT_NOT_FOUND"),
    "the withdrawal of a consent of nobody": Case(
        "FinIdService.WithdrawConsent", fixed(name=NO_CONSENT), "NOT_FOUND", "CONSENT_NOT_FOUND"
    ),
    "a receipt before consents": Case("FinIdService.GetConsentReceipt", its(), "NOT_FOUND", "CONSENT_NOT_FOUND"),
    "a page token of nobody's, of authentications": Case(
        "FinIdService.ListAuthentications", fixed(pageToken="AAAA"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"
    ),
    "a page of 101": Case(
        "FinIdService.ListAuthentications", fixed(pageSize=101), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "a page token with spaces": Case(
        "ESignService.ListSignatures", fixed(pageToken="not a token"), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "a profile that is none": Case(ISSUE, esign(profile="Not A Profile"), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    "no documents to sign": Case(
        SIGN, esign(certificate="certificates/abc", documents=[]), "INVALID_ARGUMENT", "INVALID_REQUEST"
    ),
    "nothing to verify": Case("ESignService.VerifyDocument", fixed(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
    # What comes at the wrong time.
    "liveness before consents": Case("FinIdService.StartLiveness", its(), "FAILED_PRECONDITION", "WRONG_STATE"),
    "a code before liveness": Case("FinIdService.SendCode", its(), "FAILED_PRECONDITION", "WRONG_STATE"),
    "its check before liveness": Case(
        "FinIdService.VerifyCode", its(code="000000"), "FAILED_PRECONDITION", "WRONG_STATE"
    ),
    "the result before the end": Case("FinIdService.ReadResult", its(), "FAILED_PRECONDITION", "WRONG_STATE"),
    "a step on what is over": Case(
        "FinIdService.CancelAuthentication", its(etag="of-a-version-of-it"), "ABORTED", "ETAG_MISMATCH"
    ),
    "other consents than those asked for": Case(
        "FinIdService.GiveConsents",
        lambda scene: {"name": scene.name, "consents": scene.consents[:1]},
        "INVALID_ARGUMENT",
        "CONSENTS_DIFFER",
    ),
    "the same request id for another person": Case(
        CREATE,
        lambda scene: scene.create | {"subject": SUBJECT | {"phone": "+77010000009"}},
        "ALREADY_EXISTS",
        "REQUEST_ID_REUSED",
    ),
}


@pytest.fixture(scope="module")
def doors(mesh: RunningMesh) -> Iterator[Doors]:
    with doors_of(mesh) as made:
        yield made


@pytest.fixture(scope="module")
def scene(mesh: RunningMesh) -> Scene:
    bank = mesh.access_token_when_possible()
    asked = {"requestId": secrets.token_hex(16), "subject": SUBJECT, "channel": "CHANNEL_STEPS"}
    with mesh.client() as client:
        answer = client.post("/v1/authentications", json=asked, headers={"authorization": f"Bearer {bank}"})
    created = answer.json()
    consents = [{"id": item["id"], "version": item["version"]} for item in created["consents"]]
    return Scene(bank, created["name"], consents, asked)


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_doors_agree(doors: Doors, scene: Scene, case: Case) -> None:
    request = message_factory.GetMessageClass(case.method.input_type)()
    json_format.ParseDict(case.request(scene), request)
    answers = {
        door: _lasting(answer) for door, answer in doors.answers(case.method, request, case.token(scene)).items()
    }
    assert (answers["gRPC"].code, answers["gRPC"].reason) == (case.code, case.reason)
    assert answers["REST"] == answers["gRPC"]
    assert answers["gRPC-Web"] == answers["gRPC"]


def _lasting(answer: Answer) -> Answer:
    """Without what is another each time: how long exactly to wait, and how a page token is sealed."""
    message: Any = answer.message
    if getattr(message, "next_page_token", ""):
        copied = type(message)()
        copied.CopyFrom(message)
        copied.next_page_token = "sealed"
        message = copied
    return replace(answer, retry_after_s=float(answer.retry_after_s > 0), message=message)


def test_each_method_of_the_public_api_stands_in_a_case_or_needs_a_person() -> None:
    """The rest is reached only by who has passed liveness, or holds a certificate; the e2e tests of those go there."""
    needs_a_person = {
        "FinIdService.Authenticate",
        "FinIdService.GetEvidence",
        "ESignService.ReissueCertificate",
        "ESignService.RevokeCertificate",
        "ESignService.SuspendCertificate",
        "ESignService.ResumeCertificate",
        "PkiService.Ocsp",
        "PkiService.GetOcsp",
        "PkiService.TimeStamp",
    }
    every = {f"{service}.{name}" for service in SERVICES for name in SERVICES[service].methods_by_name}
    assert every - {case.call for case in CASES.values()} <= needs_a_person
