"""SmsReportService: what SMS providers call, open to everybody. Nothing is believed here; otp checks the signature."""

from typing import Any

from finid.sms.v1 import sms_pb2 as pb
from finid.sms.v1 import sms_pb2_grpc as rpc
from google.api.httpbody_pb2 import HttpBody

from mesh.errors import Code, FinIdError
from mesh.status import PeerError
from services.auth_gateway.flow import step_error
from services.auth_gateway.ports import Otp
from services.auth_gateway.servicer.front import header

_MAX_FORM_BYTES = 16 * 1024
_FORM = "application/x-www-form-urlencoded"


class SmsReportInvalidError(FinIdError):
    """A provider's report has no signature, is empty, too large or no form."""

    code = Code.INVALID_ARGUMENT
    reason = "SMS_REPORT_INVALID"


class SmsReportRefusedError(FinIdError):
    """The report is not signed by a provider of FinID's."""

    code = Code.PERMISSION_DENIED
    reason = "SMS_REPORT_REFUSED"


class SmsReportServicer(rpc.SmsReportServiceServicer):
    """Proto to domain and back; see proto/finid/sms/v1/sms.proto."""

    def __init__(self, otp: Otp) -> None:
        self._otp = otp

    async def ReportTwilioStatus(self, request: pb.ReportTwilioStatusRequest, context: Any) -> HttpBody:
        """See the proto."""
        signature = header(context, "x-twilio-signature")
        if request.form.content_type.partition(";")[0].strip().lower() != _FORM:
            raise SmsReportInvalidError(f"The media type must be {_FORM}.")
        if not signature or not 0 < len(request.form.data) <= _MAX_FORM_BYTES:
            raise SmsReportInvalidError("A report is a signed form.")
        try:
            await self._otp.report("twilio", request.challenge, signature, request.form.data)
        except PeerError as error:
            if error.reason == SmsReportRefusedError.reason:
                raise SmsReportRefusedError("The report is refused.") from error
            raise step_error(error) from error
        return HttpBody(content_type="text/plain")
