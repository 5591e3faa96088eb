"""Wires the otp service: settings, telemetry, keys, provider, server."""

import asyncio
from datetime import UTC, datetime

from finid.otp.v1 import otp_pb2, otp_pb2_grpc

from mesh import telemetry
from mesh.health import Probe
from mesh.postgres import Database
from mesh.receipts import ReceiptSigner
from mesh.sealing import Seal, derive, read_key
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.otp.code import KeyedHash
from services.otp.codes import Codes
from services.otp.delivery import SmsProvider
from services.otp.notices import Notices
from services.otp.outbox import Outbox
from services.otp.reports import ReportReader, Reports
from services.otp.sending import Sending
from services.otp.servicer import OtpServicer
from services.otp.settings import OtpSettings
from services.otp.sms import TwilioReports, TwilioSms
from services.otp.store import ChallengeStore, NoticeStore, SendStore


def _now() -> datetime:
    return datetime.now(UTC)


def _provider(settings: OtpSettings) -> SmsProvider:
    """Return the provider that the settings choose; they have checked that it has what it needs."""
    if settings.otp_provider == "twilio" and settings.twilio_api_key_secret_file is not None:
        return TwilioSms(
            account_sid=settings.twilio_account_sid,
            api_key_sid=settings.twilio_api_key_sid,
            api_key_secret=read_secret(settings.twilio_api_key_secret_file),
            messaging_service_sid=settings.twilio_messaging_service_sid,
            base_url=settings.twilio_base_url,
            status_url=settings.twilio_status_url,
        )
    if settings.otp_provider == "outbox" and settings.otp_outbox_dir is not None:
        telemetry.logger().warning("development outbox, no sms is sent, and its files show every code")
        return Outbox(settings.otp_outbox_dir)
    raise AssertionError("settings without a provider do not load")


def _report_readers(settings: OtpSettings) -> list[ReportReader]:
    if settings.otp_provider != "twilio" or settings.twilio_auth_token_file is None:
        return []
    reader = TwilioReports(
        name="twilio",
        account_sid=settings.twilio_account_sid,
        auth_token=read_secret(settings.twilio_auth_token_file),
        status_url=settings.twilio_status_url,
    )
    return [reader]


async def serve(settings: OtpSettings) -> None:
    """Serve until SIGTERM."""
    env = Env(settings.env)
    database = await Database.open(read_secret(settings.database_url_file), service="otp")
    provider = _provider(settings)
    key = read_key(settings.otp_hmac_key_file)
    keyed_hash = KeyedHash(key, [read_key(file) for file in settings.otp_earlier_hmac_key_files])
    sends = SendStore(database)
    sending = Sending(sends=sends, provider=provider, seal=Seal(derive(key, "otp-outbox")), now=_now)
    codes = Codes(
        env=env,
        challenges=ChallengeStore(database),
        sending=sending,
        keyed_hash=keyed_hash,
        signer=ReceiptSigner.from_pem(settings.receipt_key_file.read_bytes(), env),
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
    )
    reports = Reports(sends, _report_readers(settings), _now)
    file = otp_pb2.DESCRIPTOR
    service = file.services_by_name["OtpService"]
    server = Server("otp", settings, callers(service, "auth_gateway"), [Probe("database", database.probe)])
    otp_pb2_grpc.add_OtpServiceServicer_to_server(OtpServicer(codes, notices, reports), server.grpc)
    server.reflect(file)
    try:
        await server.run(sending.run)
    finally:
        await provider.close()
        await database.close()


def main() -> None:
    """Run the otp service."""
    settings = OtpSettings.load()
    telemetry.start("otp", log_level=settings.log_level, otlp_endpoint=settings.otlp_endpoint)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
