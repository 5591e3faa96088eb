"""SMS through Twilio Programmable Messaging, with Twilio's own library."""

import hmac
import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlparse, urlsplit, urlunsplit

import aiohttp
from twilio.base.exceptions import TwilioRestException, TwilioServiceException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator, add_port, remove_port
from twilio.rest import Client

from services.otp.delivery import Accepted, DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError
from services.otp.reports import Report
from services.otp.sends import SendState

# https://www.twilio.com/docs/api/errors: no valid number, region not permitted, not reachable from the sender,
# unsubscribed, unroutable, no mobile number.
_UNREACHABLE_CODES = frozenset({21211, 21408, 21610, 21612, 21614, 21635})
# https://www.twilio.com/docs/messaging/api/message-resource#message-status-values; the others say nothing that lasts.
_STATES: Final[Mapping[str, SendState]] = {
    "sent": SendState.SENT,
    "delivered": SendState.DELIVERED,
    "read": SendState.DELIVERED,
    "undelivered": SendState.UNDELIVERED,
    "failed": SendState.UNDELIVERED,
    "canceled": SendState.UNDELIVERED,
}
_MAX_FIELDS = 60
_HTTP_SERVER_ERRORS = 500
_HTTP_UNAVAILABLE = 503

# The library logs each request's address and headers; phones and texts must reach no log at all.
_SILENT = logging.getLogger("services.otp.twilio")
_SILENT.disabled = True


class _HttpClient(AsyncTwilioHttpClient):  # type: ignore[misc]  # the library is not typed
    """Twilio's client, pointed at `base_url`: the library has no setting for it, and no default timeout."""

    def __init__(self, base_url: str, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s, logger=_SILENT)
        self._base = urlsplit(base_url)

    async def request(
        self,
        method: str,
        url: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  the library's signature
        allow_redirects: bool = False,
    ) -> Response:
        """Send one request to `base_url` instead; redirects are not followed."""
        moved = urlunsplit(urlsplit(url)._replace(scheme=self._base.scheme, netloc=self._base.netloc))
        # As a header: the library's own way is deprecated by aiohttp.
        signed = {**(headers or {}), **({"Authorization": aiohttp.encode_basic_auth(*auth)} if auth else {})}
        try:
            return await super().request(method, moved, params, data, signed, timeout=timeout or self.timeout)
        finally:
            # The library keeps both for its own tests: a phone and a code would stay in memory.
            self._test_only_last_request = self._test_only_last_response = None


class TwilioSms:
    """An SMS provider over one Twilio account. Must be made, used and closed within one event loop."""

    def __init__(
        self,
        *,
        name: str = "twilio",
        account_sid: str,
        api_key_sid: str,
        api_key_secret: str,
        messaging_service_sid: str,
        base_url: str,
        status_url: str = "",
        timeout_s: float = 8.0,
    ) -> None:
        self.name = name
        self._status_url = status_url
        self._messaging_service_sid = messaging_service_sid
        self._http = _HttpClient(base_url, timeout_s)
        self._client = Client(
            username=api_key_sid, password=api_key_secret, account_sid=account_sid, http_client=self._http
        )

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
        """Create one Message. See `delivery.SmsProvider`."""
        reported = {"status_callback": f"{self._status_url}/{name}"} if self._status_url and name else {}
        try:
            message = await self._client.messages.create_async(
                to=phone,
                body=text,
                messaging_service_sid=self._messaging_service_sid,
                validity_period=valid_s,
                **reported,
            )
        except (TwilioRestException, TwilioServiceException) as error:
            raise _refusal(error) from None  # its text quotes the phone
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise SmsUnavailableError("The SMS provider does not answer.", retry_after_s=5.0) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DeliveryUnknownError from error
        except (ValueError, TypeError, AttributeError) as error:  # how the library takes an answer that is no Message
            raise DeliveryUnknownError from error
        if not isinstance(message.sid, str):
            raise DeliveryUnknownError
        return Accepted(message.sid)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _refusal(error: TwilioRestException | TwilioServiceException) -> Exception:
    if error.code in _UNREACHABLE_CODES:
        return PhoneUnreachableError("This phone cannot be reached by SMS.")
    # "If you get a 500 Server Error on these requests, and you retry the request, it is possible for a customer to
    # receive multiple messages" (https://www.twilio.com/docs/errors/20500).
    if error.status >= _HTTP_SERVER_ERRORS and error.status != _HTTP_UNAVAILABLE:
        return DeliveryUnknownError()
    return SmsUnavailableError("The SMS provider took nothing.", retry_after_s=5.0)


class TwilioReports:
    """Reads the status callbacks of one Twilio account (https://www.twilio.com/docs/usage/webhooks/webhooks-security)."""

    kind = "twilio"

    def __init__(self, *, name: str, account_sid: str, auth_token: str, status_url: str) -> None:
        """Take the address under which Twilio reaches us, exactly as it is given to Twilio with each message."""
        self._name = name
        self._account_sid = account_sid
        self._validator = RequestValidator(auth_token)
        self._status_url = status_url

    def read(self, challenge: str, signature: str, body: bytes) -> Report | None:
        """Return what a callback says. See `reports.ReportReader`."""
        try:
            fields = parse_qsl(
                body.decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_MAX_FIELDS,
            )
        except ValueError:
            return None
        form = dict(fields)
        if (
            not self._is_signed(f"{self._status_url}/{challenge}", form, signature)
            or len(form) != len(fields)
            or form.get("AccountSid") != self._account_sid
        ):
            return None
        return Report(self._name, form.get("MessageSid", ""), _STATES.get(form.get("MessageStatus", "")))

    def _is_signed(self, url: str, form: Mapping[str, str], signature: str) -> bool:
        """As the library's `validate`, whose own comparison goes letter by letter in Python; this is in constant time.

        Twilio signs an address with its port or without, "inconsistently", as the library says.
        """
        said = signature.encode("utf-8", "surrogatepass")
        spellings = (remove_port(urlparse(url)), add_port(urlparse(url)))
        same = [hmac.compare_digest(self._validator.compute_signature(each, form).encode(), said) for each in spellings]
        return True in same
