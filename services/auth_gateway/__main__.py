"""Starts the hub: settings, telemetry, store, channels to the spokes, servers."""

import asyncio
import datetime
import random

from finid.auth.v1 import auth_pb2, auth_pb2_grpc
from finid.capture.v1 import capture_pb2, capture_pb2_grpc
from finid.esign.v1 import esign_pb2, esign_pb2_grpc
from finid.pki.v1 import pki_pb2, pki_pb2_grpc

from mesh import pins, telemetry
from mesh.channel import connect
from mesh.health import Probe
from mesh.postgres import Database
from mesh.sealing import Seal, derive, read_key
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.auth_gateway import peers
from services.auth_gateway.access import AccessTokens
from services.auth_gateway.capture import CaptureLinks
from services.auth_gateway.completion import Completion, Consumers
from services.auth_gateway.consent_store import ConsentStore
from services.auth_gateway.consents import ConsentBook
from services.auth_gateway.creation import Creation
from services.auth_gateway.flow import Flow, Spokes
from services.auth_gateway.given_consents import GivenConsents
from services.auth_gateway.pace import Pace
from services.auth_gateway.paging import PageTokens
from services.auth_gateway.results import Results
from services.auth_gateway.servicer.capture import CaptureServicer
from services.auth_gateway.servicer.desk import Desk
from services.auth_gateway.servicer.esign import ESignServicer
from services.auth_gateway.servicer.finid import FinIdServicer
from services.auth_gateway.servicer.front import Front
from services.auth_gateway.servicer.pki import PkiServicer
from services.auth_gateway.servicer.webhooks import WebhookDesk
from services.auth_gateway.settings import Settings
from services.auth_gateway.statements import KeyUse, PublishedKey, SigningKey, StatementKey, earlier_keys
from services.auth_gateway.store import Store
from services.auth_gateway.webhook_store import WebhookStore
from services.auth_gateway.webhooks import Webhooks

# Twenty documents of 10 MiB would not fit: a signature's documents together stay below this.
_MAX_MESSAGE_KIB = 32 * 1024


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def main() -> None:
    """Run until SIGTERM."""
    settings = Settings.load()
    telemetry.start("auth_gateway", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)
    key = read_key(settings.gateway_key_file)
    database = await Database.open(read_secret(settings.database_url_file), service="auth_gateway", max_connections=16)
    store = Store(database, Seal(derive(key, "field")))

    registry = peers.RegistryPeer(connect(settings, "registry", settings.peer_registry))
    liveness = peers.LivenessPeer(connect(settings, "liveness", settings.peer_liveness, max_message_kib=8 * 1024))
    facematch = peers.FaceMatchPeer(connect(settings, "facematch", settings.peer_facematch, max_message_kib=8 * 1024))
    otp = peers.OtpPeer(connect(settings, "otp", settings.peer_otp))
    signer = peers.SignerPeer(connect(settings, "signer", settings.peer_signer))
    ca = peers.CaPeer(connect(settings, "ca", settings.peer_ca))
    documents = peers.DocumentsPeer(
        connect(settings, "documents", settings.peer_documents, max_message_kib=_MAX_MESSAGE_KIB)
    )
    portal = peers.PortalPeer(connect(settings, "portal", settings.peer_portal))

    statement_key = StatementKey.from_pem(settings.statement_key_file.read_bytes())
    webhook_key = SigningKey.from_pem(settings.webhook_key_file.read_bytes())
    own_keys = [
        PublishedKey(KeyUse.STATEMENT, statement_key.public_key),
        PublishedKey(KeyUse.WEBHOOK, webhook_key.public_key),
        *(
            earlier_keys(settings.earlier_keys_file.read_bytes(), Env(settings.env))
            if settings.earlier_keys_file
            else ()
        ),
    ]
    webhook_store = WebhookStore(database)
    webhooks = Webhooks(
        outbox=webhook_store,
        portal=portal,
        key=webhook_key,
        egress=settings.webhook_egress(),
        now=_now,
        chance=random.SystemRandom().random,
    )
    webhook_desk = WebhookDesk(webhook_store, Seal(derive(key, "webhook-page")))
    consents = ConsentBook(settings.consents_file)
    links = CaptureLinks(derive(key, "capture-link"), settings.page_uri)
    completion = Completion(store, Consumers(registry, otp, signer, ca, documents), _now)
    tokens = AccessTokens(portal.token_keys, settings.token_issuer, lambda: int(_now().timestamp()))
    front = Front(tokens, store, _now)
    desk = Desk(
        front=front,
        records=store,
        creation=Creation(
            env=Env(settings.env),
            key=key,
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
        ),
        flow=Flow(store, Spokes(liveness, facematch, otp), completion, _now, Pace()),
        results=Results(store, _now, statement_key),
        links=links,
        request_key=derive(key, "request-digest"),
        consents=GivenConsents(
            ConsentStore(database), statement_key, Env(settings.env), PageTokens(Seal(derive(key, "page-token"))), _now
        ),
    )
    published = pins.parse(settings.pins_file.read_bytes(), Env(settings.env))

    files = (auth_pb2.DESCRIPTOR, capture_pb2.DESCRIPTOR, esign_pb2.DESCRIPTOR, pki_pb2.DESCRIPTOR)
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
    )
    auth_pb2_grpc.add_FinIdServiceServicer_to_server(FinIdServicer(desk, webhook_desk), server.grpc)
    capture_pb2_grpc.add_CaptureServiceServicer_to_server(CaptureServicer(desk, documents), server.grpc)
    esign_pb2_grpc.add_ESignServiceServicer_to_server(ESignServicer(desk, documents, ca), server.grpc)
    pki_pb2_grpc.add_PkiServiceServicer_to_server(PkiServicer(ca, published, own_keys, _now), server.grpc)
    server.reflect(*files)
    try:
        await server.run(completion.resume, webhooks.run)
    finally:
        await database.close()


if __name__ == "__main__":
    asyncio.run(main())
