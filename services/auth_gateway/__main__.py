"""Starts the hub: settings, telemetry, store, channels to the spokes, servers."""

import datetime
import functools
import random
import sys

import uvloop
from finid.auth.v1 import auth_pb2, auth_pb2_grpc
from finid.capture.v1 import capture_pb2, capture_pb2_grpc
from finid.esign.v1 import esign_pb2, esign_pb2_grpc
from finid.pki.v1 import pki_pb2, pki_pb2_grpc
from finid.sms.v1 import sms_pb2, sms_pb2_grpc

from mesh import identity, telemetry
from mesh.channel import connect
from mesh.health import Probe
from mesh.key_files import pins_of
from mesh.postgres import Database
from mesh.pseudonyms import PseudonymKeysError, require_stamped
from mesh.sealing import derive
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.auth_gateway import own_keys, peers
from services.auth_gateway.access import AccessTokens
from services.auth_gateway.allowance import Allowance, Limits
from services.auth_gateway.bucket_store import BucketStore
from services.auth_gateway.capture import CaptureLinks
from services.auth_gateway.completion import Completion, Consumers
from services.auth_gateway.consent_store import ConsentStore
from services.auth_gateway.consents import ConsentBook
from services.auth_gateway.creation import Creation
from services.auth_gateway.expiry_notices import ExpiryNotices
from services.auth_gateway.flow import Flow, Spokes
from services.auth_gateway.given_consents import GivenConsents
from services.auth_gateway.list_store import ListStore
from services.auth_gateway.listing import Lists
from services.auth_gateway.notice_store import NoticeStore
from services.auth_gateway.notices import Notices
from services.auth_gateway.pace import Pace
from services.auth_gateway.paging import PageTokens
from services.auth_gateway.phones import PhoneNumbers
from services.auth_gateway.request_store import RequestStore
from services.auth_gateway.results import Results
from services.auth_gateway.retention import Retention
from services.auth_gateway.servicer.capture import CaptureServicer
from services.auth_gateway.servicer.desk import Desk
from services.auth_gateway.servicer.esign import ESignServicer
from services.auth_gateway.servicer.finid import FinIdServicer
from services.auth_gateway.servicer.front import Front
from services.auth_gateway.servicer.pki import PkiServicer
from services.auth_gateway.servicer.rules import Rules
from services.auth_gateway.servicer.sms import SmsReportServicer
from services.auth_gateway.servicer.webhooks import WebhookDesk
from services.auth_gateway.settings import Settings
from services.auth_gateway.store import FIELD_LABEL, Store
from services.auth_gateway.subjects import SUBJECT_LABEL, Subjects
from services.auth_gateway.webhook_store import WebhookStore
from services.auth_gateway.webhooks import Webhooks

# Twenty documents of 10 MiB would not fit: a signature's documents together stay below this.
_MAX_MESSAGE_KIB = 32 * 1024


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def main() -> None:
    """Run until SIGTERM."""
    settings = Settings.load()
    telemetry.start(
        "auth_gateway",
        log_level=settings.log_level,
        otlp_endpoint=settings.otlp_endpoint,
        trace_ratio=settings.trace_ratio,
    )
    keys = settings.gateway_keys()
    database = await Database.open(read_secret(settings.database_url_file), service="auth_gateway", max_connections=16)
    stamped = functools.partial(require_stamped, database, "auth_gateway", keys)
    seal = keys.seal(FIELD_LABEL)
    store = Store(database, seal)

    own = identity.mounted(settings)
    registry = peers.RegistryPeer(connect(own, "registry", settings.peer_registry))
    liveness = peers.LivenessPeer(connect(own, "liveness", settings.peer_liveness, max_message_kib=8 * 1024))
    facematch = peers.FaceMatchPeer(connect(own, "facematch", settings.peer_facematch, max_message_kib=8 * 1024))
    otp = peers.OtpPeer(connect(own, "otp", settings.peer_otp))
    signer = peers.SignerPeer(connect(own, "signer", settings.peer_signer))
    ca = peers.CaPeer(connect(own, "ca", settings.peer_ca))
    documents = peers.DocumentsPeer(
        connect(own, "documents", settings.peer_documents, max_message_kib=_MAX_MESSAGE_KIB)
    )
    portal = peers.PortalPeer(connect(own, "portal", settings.peer_portal))

    statement_key = own_keys.statement_key_of(settings)
    webhook_key = own_keys.webhook_key_of(settings)
    published_keys = own_keys.published(statement_key, webhook_key, own_keys.other_keys_of(settings))
    webhook_store = WebhookStore(database)
    webhooks = Webhooks(
        outbox=webhook_store,
        portal=portal,
        key=webhook_key,
        egress=settings.webhook_egress(),
        now=_now,
        chance=random.SystemRandom().random,
    )
    page_tokens = PageTokens(keys.seal("page-token"))
    webhook_desk = WebhookDesk(webhook_store, page_tokens)
    consents = ConsentBook(settings.consents_file)
    links = CaptureLinks(
        derive(keys.newest, "capture-link"), settings.page_uri, earlier=keys.derived("capture-link")[:-1]
    )
    completion = Completion(store, Consumers(registry, otp, signer, ca, documents), _now)
    noted = NoticeStore(database)
    notices = Notices(noted, store, otp, signer, _now)
    expiry_notices = ExpiryNotices(
        ca,
        noted,
        days=settings.expiry_notice_days,
        every=datetime.timedelta(seconds=settings.expiry_notice_every_s),
        now=_now,
    )
    tokens = AccessTokens(portal.token_keys, settings.token_issuer, lambda: int(_now().timestamp()))
    limits = Limits.of(
        read=settings.rate_read_per_s,
        step=settings.rate_step_per_s,
        create=settings.rate_create_per_s,
        document=settings.rate_document_per_s,
        starts_per_day=settings.quota_starts_per_day,
        streams=settings.streams_per_application,
    )
    front = Front(tokens, store, _now, Allowance(BucketStore(database), limits, _now))
    retention = Retention(RequestStore(database), _now)
    desk = Desk(
        front=front,
        records=store,
        creation=Creation(
            env=Env(settings.env),
            subjects=Subjects(keys.derived(SUBJECT_LABEL)),
            records=store,
            portal=portal,
            registry=registry,
            documents=documents,
            signer=signer,
            consents=consents,
            links=links,
            policies=frozenset(settings.policies),
            now=_now,
            pace=Pace(),
            answers_after_s=settings.create_answers_after_s,
        ),
        flow=Flow(store, Spokes(liveness, facematch, otp), completion, _now, Pace()),
        results=Results(store, _now, statement_key),
        links=links,
        request_key=derive(keys.newest, "request-digest"),
        consents=GivenConsents(ConsentStore(database), statement_key, Env(settings.env), page_tokens, _now),
        lists=Lists(ListStore(database, seal), signer, page_tokens),
        page_tokens=page_tokens,
        earlier_request_keys=keys.derived("request-digest")[:-1],
    )
    pinned = pins_of(settings, settings.pins_file)

    files = (auth_pb2.DESCRIPTOR, capture_pb2.DESCRIPTOR, esign_pb2.DESCRIPTOR, pki_pb2.DESCRIPTOR, sms_pb2.DESCRIPTOR)
    allowed = {
        method: names
        for file in files
        for service in file.services_by_name.values()
        for method, names in callers(service, "envoy").items()
    }
    server = Server(
        "auth_gateway",
        settings,
        allowed,
        probes=[Probe("database", database.probe)],
        max_message_kib=_MAX_MESSAGE_KIB,
        rules=Rules(PhoneNumbers(settings.phone_countries)),
    )
    auth_pb2_grpc.add_FinIdServiceServicer_to_server(FinIdServicer(desk, webhook_desk), server.grpc)
    capture_pb2_grpc.add_CaptureServiceServicer_to_server(CaptureServicer(desk, documents), server.grpc)
    esign_pb2_grpc.add_ESignServiceServicer_to_server(ESignServicer(desk, documents, ca), server.grpc)
    pki_pb2_grpc.add_PkiServiceServicer_to_server(PkiServicer(ca, pinned, published_keys, _now), server.grpc)
    sms_pb2_grpc.add_SmsReportServiceServicer_to_server(SmsReportServicer(otp), server.grpc)
    server.reflect(*files)
    try:
        await server.run(
            completion.resume,
            webhooks.run,
            webhooks.watch_backlog,
            notices.tell,
            expiry_notices.sweep,
            retention.run,
            first=stamped,
        )
    finally:
        await database.close()


if __name__ == "__main__":
    # A call turns the loop about ten times, and PostgreSQL's driver turns it more (bench/README.md).
    try:
        uvloop.run(main())
    except PseudonymKeysError as error:
        sys.exit(f"refused to start: {error}")
