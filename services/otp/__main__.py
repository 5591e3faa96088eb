"""Wires the otp service: settings, telemetry, keys, provider, server."""

import asyncio
from datetime import UTC, datetime

from finid.otp.v1 import otp_pb2, otp_pb2_grpc

from mesh import telemetry
from mesh.health import Probe
from mesh.postgres import Database
from mesh.receipts import ReceiptSigner
from mesh.sealing import read_key
from mesh.server import Server, callers
from mesh.settings import read_secret
from mesh.transaction import Env
from services.otp.code import KeyedHash
from services.otp.codes import Codes
from services.otp.delivery import SmsProvider
from services.otp.notices import Notices
from services.otp.outbox import Outbox
from services.otp.servicer import OtpServicer
from services.otp.settings import OtpSettings
from services.otp.sms import TwilioSms
from services.otp.store import ChallengeStore, NoticeStore


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
        )
    if settings.otp_provider == "outbox" and settings.otp_outbox_dir is not None:
        telemetry.logger().warning("development outbox, no sms is sent, and its files show every code")
        return Outbox(settings.otp_outbox_dir)
    raise AssertionError("settings without a provider do not load")


async def serve(settings: OtpSettings) -> None:
    """Serve until SIGTERM."""
    env = Env(settings.env)
    database = await Database.open(read_secret(settings.database_url_file), service="otp")
    provider = _provider(settings)
    keyed_hash = KeyedHash(read_key(settings.otp_hmac_key_file))
    codes = Codes(
        env=env,
        challenges=ChallengeStore(database),
        provider=provider,
        keyed_hash=keyed_hash,
        signer=ReceiptSigner.from_pem(settings.receipt_key_file.read_bytes(), env),
        limits=settings.limits,
        allowed_prefixes=settings.otp_allowed_prefixes,
        origin=settings.otp_origin,
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
    otp_pb2_grpc.add_OtpServiceServicer_to_server(OtpServicer(codes, notices), server.grpc)
    server.reflect(file)
    try:
        await server.run()
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
