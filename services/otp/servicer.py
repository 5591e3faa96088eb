"""OtpService: protobuf to the domain and back."""

from typing import Any

import grpc
from finid.auth.v1 import auth_pb2
from finid.otp.v1 import otp_pb2 as pb
from finid.otp.v1 import otp_pb2_grpc as rpc

from services.otp.codes import Asker, Codes
from services.otp.notices import Ending, Notices
from services.otp.reports import Reports
from services.otp.text import Language

# The state language, unless the person chose another.
_LANGUAGES = {
    auth_pb2.LANGUAGE_UNSPECIFIED: Language.KK,
    auth_pb2.LANGUAGE_KK: Language.KK,
    auth_pb2.LANGUAGE_RU: Language.RU,
    auth_pb2.LANGUAGE_EN: Language.EN,
}


class OtpServicer(rpc.OtpServiceServicer):
    """The otp service's methods. See otp.proto."""

    def __init__(self, codes: Codes, notices: Notices, reports: Reports) -> None:
        self._reports = reports
        self._codes = codes
        self._notices = notices

    async def SendCode(
        self, request: pb.SendCodeRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SendCodeResponse:
        """Send a code."""
        asker = Asker(request.subject, request.address, request.known_challenge)
        sent = await self._codes.send(
            request.transaction, request.phone, request.phone_salt, _LANGUAGES[request.language], asker
        )
        response = pb.SendCodeResponse(challenge=sent.challenge, masked_phone=sent.masked_phone)
        response.expire_time.FromDatetime(sent.expires_at)
        response.resend_time.FromDatetime(sent.resend_at)
        return response

    async def VerifyCode(
        self, request: pb.VerifyCodeRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.VerifyCodeResponse:
        """Check a code."""
        return pb.VerifyCodeResponse(receipt=await self._codes.verify(request.txn, request.challenge, request.code))

    async def SendNotice(
        self, request: pb.SendNoticeRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SendNoticeResponse:
        """Tell a phone of a transaction."""
        language = _LANGUAGES[request.language]
        await self._notices.send(request.transaction, request.phone, language, request.phone_salt)
        return pb.SendNoticeResponse()

    async def ReportDelivery(
        self, request: pb.ReportDeliveryRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReportDeliveryResponse:
        """Take a provider's report."""
        await self._reports.take(request.provider, request.challenge, request.signature, request.body)
        return pb.ReportDeliveryResponse()

    async def SendExpiryNotice(
        self, request: pb.SendExpiryNoticeRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SendExpiryNoticeResponse:
        """Tell a phone of a certificate's end."""
        ending = Ending(request.serial, request.not_after, request.within_days)
        await self._notices.send_expiry(ending, request.phone, _LANGUAGES[request.language])
        return pb.SendExpiryNoticeResponse()
