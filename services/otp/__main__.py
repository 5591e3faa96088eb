"""Wires the otp service: settings, telemetry, keys, provider, server."""

import asyncio
import ssl
import time
from datetime import UTC, datetime

from finid.otp.v1 import otp_pb2, otp_pb2_grpc

from mesh import metrics, telemetry
from mesh.health import Probe
from mesh.key_files import receipt_signer_of
from mesh.postgres import Database
from mesh.sealing import Seal, derive, read_key
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.otp.code import KeyedHash
from services.otp.codes import Codes
from services.otp.delivery import SmsProvider
from services.otp.http_gateway import HttpGateway
from services.otp.notices import Notices
from services.otp.outbox import Outbox
from services.otp.providers import HttpTable, OutboxTable, Providers, ProviderTable, SmppTable, TwilioTable
from services.otp.pumping import Pumping
from services.otp.reports import ReportReader, Reports
from services.otp.routes import Routes
from services.otp.sending import Sending
from services.otp.servicer import OtpServicer
from services.otp.settings import OtpSettings
from services.otp.smpp import Receipt, SmppAccount, SmppSms
from services.otp.sms import TwilioReports, TwilioSms
from services.otp.store import ChallengeStore, NoticeStore, PauseStore, SendStore


def _now() -> datetime:
    return datetime.now(UTC)


def _provider(table: ProviderTable, on_receipt: Receipt) -> SmsProvider:
    """Return the provider that a table describes."""
    match table:
        case TwilioTable():
            return TwilioSms(
                name=table.name,
                account_sid=table.account_sid,
                api_key_sid=table.api_key_sid,
                api_key_secret=read_secret(table.api_key_secret_file),
                messaging_service_sid=table.messaging_service_sid,
                base_url=table.base_url,
                status_url=table.status_url,
                timeout_s=table.timeout_s,
            )
        case SmppTable():
            account = SmppAccount(
                host=table.host,
                port=table.port,
                tls=table.tls,
                system_id=table.system_id,
                password=read_secret(table.password_file),
                source=table.source,
                source_ton=table.source_ton,
                source_npi=table.source_npi,
                system_type=table.system_type,
                long_texts=table.long_texts,
            )
            return SmppSms(table.name, account, on_receipt, timeout_s=table.timeout_s)
        case HttpTable():
            tls = ssl.create_default_context(cafile=table.ca_file)
            return HttpGateway(table.name, table.template(), tls, table.timeout_s)
        case OutboxTable():
            telemetry.logger().warning("development outbox, no sms is sent, and its files show every code")
            return Outbox(table.folder)


def _report_readers(providers: Providers) -> list[ReportReader]:
    return [
        TwilioReports(
            name=table.name,
            account_sid=table.account_sid,
            auth_token=read_secret(table.auth_token_file),
            status_url=table.status_url,
        )
        for table in providers.provider
        if isinstance(table, TwilioTable) and table.auth_token_file is not None
    ]


async def serve(settings: OtpSettings) -> None:
    """Serve until SIGTERM."""
    env = Env(settings.env)
    database = await Database.open(read_secret(settings.database_url_file), service="otp")
    key = read_key(settings.otp_hmac_key_file)
    earlier_keys = [read_key(file) for file in settings.otp_earlier_hmac_key_files]
    keyed_hash = KeyedHash(key, earlier_keys)
    seal, *earlier_seals = (Seal(derive(each, "otp-outbox")) for each in (key, *earlier_keys))
    sends = SendStore(database)
    providers = settings.providers
    metrics.PROVIDERS.tell([table.name for table in providers.provider])
    reports = Reports(sends, _report_readers(providers), _now)
    made = {table.name: _provider(table, reports.received) for table in providers.provider}
    sessions = [each for each in made.values() if isinstance(each, SmppSms)]
    provider = Routes(
        {route.prefix: [made[name] for name in route.providers] for route in providers.route},
        providers.limits,
        time.monotonic,
    )
    sending = Sending(sends=sends, provider=provider, seal=seal, earlier_seals=earlier_seals, now=_now)
    pumping = Pumping(PauseStore(database), settings.pumping, _now)
    codes = Codes(
        env=env,
        challenges=ChallengeStore(database),
        sending=sending,
        keyed_hash=keyed_hash,
        signer=receipt_signer_of(settings, settings.receipt_key_file),
        limits=settings.limits,
        allowed_prefixes=settings.otp_allowed_prefixes,
        origin=settings.otp_origin,
        max_segments=settings.otp_max_segments,
        now=_now,
    )
    notices = Notices(
        env=env,
        record=NoticeStore(database),
        provider=provider,
        keyed_hash=keyed_hash,
        allowed_prefixes=settings.otp_allowed_prefixes,
        now=_now,
        max_signed_per_phone_day=settings.limits.max_per_phone_day,
    )
    file = otp_pb2.DESCRIPTOR
    service = file.services_by_name["OtpService"]
    server = Server("otp", settings, callers(service, "auth_gateway"), [Probe("database", database.probe)])
    otp_pb2_grpc.add_OtpServiceServicer_to_server(OtpServicer(codes, notices, reports), server.grpc)
    server.reflect(file)
    try:
        await server.run(sending.run, pumping.run, *(session.run for session in sessions))
    finally:
        await provider.close()
        await database.close()


def main() -> None:
    """Run the otp service."""
    settings = OtpSettings.load()
    telemetry.start(
        "otp", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint, trace_ratio=settings.trace_ratio
    )
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
