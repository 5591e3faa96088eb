"""Nothing personal and nothing secret in a log line, a span, an error or a table, whatever happens to people."""

import logging
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import structlog
from finid.auth.v1 import auth_pb2 as auth
from finid.capture.v1 import capture_pb2 as page
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from deploy.local import database as local
from mesh import base64url
from mesh.errors import Code
from mesh.status import PeerError
from services.auth_gateway.authentication import Authentication
from tests.auth_gateway.edge import Edge, refused
from tests.auth_gateway.fakes import CODE, KEYFRAMES, NOBODYS_IIN, PERSON, PHOTO_JWE, refusal, unavailable
from tests.auth_gateway.room import VERIFIER
from tests.auth_gateway.visits import (
    CONTENTS,
    FRAMES,
    HostedPage,
    Stream,
    certificate_of,
    consents,
    create,
    entered,
    read,
    sign,
)
from tests.bundles import IIN, PHONE

pytestmark = pytest.mark.postgres

WRONG_CODE = "271828"
TABLES = (
    "authentication",
    "certificate",
    "operation",
    "request",
    "journal",
    "webhook",
    "consent",
    "consent_text",
)
RECEIPTS = ("state.record.receipt", "liveness.receipt", "face.match.receipt", "sms.otp.receipt", "release.receipt")


class Collected(SpanExporter):
    """Keeps spans as text while it is open; a processor cannot be taken off its provider again."""

    def __init__(self) -> None:
        self.is_open = True
        self.texts: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self.is_open:
            self.texts += [span.to_json() for span in spans]
        return SpanExportResult.SUCCESS


@pytest.fixture
def spans() -> Iterator[Collected]:
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    collected = Collected()
    provider.add_span_processor(SimpleSpanProcessor(collected))
    yield collected
    collected.is_open = False


class Day:
    """Everything that happens at a gateway, and the secrets it was trusted with."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.errors: list[PeerError] = []
        self.secrets = {IIN, PHONE, PHONE[1:], NOBODYS_IIN, CODE, WRONG_CODE, PHOTO_JWE, VERIFIER, *RECEIPTS}
        self.secrets |= {*PERSON.values(), *(item.decode() for item in (*CONTENTS, *KEYFRAMES))}
        self.secrets |= {frame.jpeg.decode() for frame in FRAMES}
        self.secrets.add(edge.token()[0][1].removeprefix("Bearer "))

    def keeps(self, item: Authentication) -> None:
        for salt in (item.openings.iin_salt, item.openings.phone_salt):
            self.secrets |= {base64url.encode(salt), salt.hex(), repr(salt)}

    async def identify_hosted(self) -> None:
        finid, token = self.edge.finid(), self.edge.token()
        created = await finid.CreateAuthentication(create(), metadata=token)
        self.keeps(await self.edge.room.get(created.name))
        opened = HostedPage(self.edge)
        shown = await opened.open(created.capture_uri)
        self.secrets |= {created.capture_uri.partition("#")[2], opened.cookie[0][1].partition(".")[2]}
        self.errors.append(await refused(HostedPage(self.edge).open(created.capture_uri)))
        self.errors.append(await refused(opened.call("VerifyCode", page.VerifyCodeRequest(code=WRONG_CODE))))
        code = parse_qs(urlsplit(await opened.walk(shown)).query)["code"][0]
        self.secrets.add(code)
        asked = auth.ReadResultRequest(name=created.name, result_code=code, code_verifier="w" * 43)
        self.errors.append(await refused(finid.ReadResult(asked, metadata=token)))
        await read(self.edge, created.name, code)
        listed = await opened.call("ListMyConsents", page.ListMyConsentsRequest())
        for consent in listed.consents[:2]:
            await opened.call("WithdrawConsent", page.WithdrawConsentRequest(name=consent.name))
        self.errors.append(
            await refused(finid.GetConsent(auth.GetConsentRequest(name=f"{consent.name}-0"), metadata=token))
        )

    async def fail_in_a_stream(self) -> None:
        stream = Stream(self.edge)
        asked = create(auth.CHANNEL_STREAM)
        await stream.up_to_the_code(asked)
        for _ in range(5):
            self.errors.append(await stream.refused(verify_code=entered(WRONG_CODE)))
            stream = Stream(self.edge)
            await stream.ask(create=asked)
        assert (await stream.hears()).result.reason == "CODE_FAILED"

    async def meet_nobody_and_outages(self) -> None:
        room, finid, token = self.edge.room, self.edge.finid(), self.edge.token()
        asked = create(auth.CHANNEL_STEPS, subject=auth.Subject(iin=NOBODYS_IIN, phone=PHONE))
        created = await finid.CreateAuthentication(asked, metadata=token)
        self.keeps(await room.get(created.name))
        given = auth.GiveConsentsRequest(name=created.name, consents=consents(created))
        await finid.GiveConsents(given, metadata=token)
        spilling = refusal("liveness", Code.INTERNAL, "INTERNAL", f"{IIN} {PHONE} {CODE}")
        for outage in (spilling, unavailable("liveness"), LookupError(IIN)):
            room.liveness.fails("start", outage)
            start = auth.StartLivenessRequest(name=created.name)
            self.errors.append(await refused(finid.StartLiveness(start, metadata=token)))
        bad = create(subject=auth.Subject(iin=f"{IIN}0", phone=f"{PHONE}000000"))
        self.errors.append(await refused(finid.CreateAuthentication(bad, metadata=token)))
        forged = (("authorization", token[0][1] + "x"),)
        self.errors.append(await refused(finid.CreateAuthentication(asked, metadata=forged)))

    async def issue_and_sign(self) -> None:
        room, token = self.edge.room, self.edge.token()
        order = await certificate_of(self.edge)
        room.signer.fails("sign_digests", refusal("signer", Code.PERMISSION_DENIED, "FACTOR_MISSING", IIN))
        for _ in range(2):
            signature = await self.edge.esign().CreateSignature(sign(order.certificate.name), metadata=token)
            opened = HostedPage(self.edge)
            await opened.walk(await opened.open(signature.authentication.capture_uri))

    async def pass_by(self) -> None:
        await self.identify_hosted()
        await self.fail_in_a_stream()
        await self.meet_nobody_and_outages()
        await self.issue_and_sign()
        self.edge.room.registry.fails("attest", LookupError(IIN))
        await refused(self.edge.finid().CreateAuthentication(create(), metadata=self.edge.token()))


async def test_a_day_leaves_nothing_personal_in_logs_spans_errors_and_tables(
    edge: Edge,
    made: local.Database,
    spans: Collected,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    edge.room.portal.becomes(webhook_uri="https://bank.example/events")
    day = Day(edge)
    with structlog.testing.capture_logs() as lines:  # as they were written, before telemetry filters them
        await day.pass_by()
    printed = capfd.readouterr()
    with psycopg.connect(made.owner_url) as owner:
        tables = [
            owner.execute(f"SELECT t::text FROM auth_gateway.{table} AS t").fetchall()  # noqa: S608  a constant
            for table in TABLES
        ]
    assert len(lines) > 20
    assert len(spans.texts) > 20
    assert len(day.errors) >= 7
    places = {
        "logs": str(lines),
        "library logs": caplog.text,
        "output": printed.out + printed.err,
        "spans": " ".join(spans.texts),
        "errors": " ".join(f"{error} {error.message} {error.metadata} {error.violations}" for error in day.errors),
        "tables": " ".join(row[0] for rows in tables for row in rows),
    }
    kept_on_purpose = {"tables": set(RECEIPTS)}
    for place, text in places.items():
        for secret in day.secrets - kept_on_purpose.get(place, set()):
            assert secret not in text, f"{place} hold a secret"
