"""SMS through an HTTP gateway of the kind that Kazakh aggregators offer: one POST, described in the providers' file."""

import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

import aiohttp

from services.otp.delivery import Accepted, DeliveryUnknownError, PhoneUnreachableError, SmsUnavailableError

_MAX_ANSWER_BYTES = 64 * 1024
_PLACE = re.compile(r"\{([a-z_]+)\}")
PLACES = frozenset({"phone", "phone_digits", "text", "valid_s", "name"})


@dataclass(frozen=True, slots=True)
class HttpTemplate:
    """What a gateway is sent and how its answers read.

    `fields` are the form's or the JSON object's; in their values {phone} is the E.164 number, {phone_digits} the same
    without its plus, {text}, {valid_s} and {name} the rest of the SMS. `fields` and `headers` may hold secrets. `taken`
    must be found in the answer's body for the SMS to be taken, where it is given; `refused` says that it certainly was
    not, `unreachable` that the number takes no SMS. `reference` is the way to the gateway's own name of the SMS in a
    JSON answer, key by key.
    """

    url: str
    fields: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Literal["form", "json"] = "form"
    taken: re.Pattern[str] | None = None
    refused: re.Pattern[str] | None = None
    unreachable: re.Pattern[str] | None = None
    reference: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.url.startswith("https://"):
            raise ValueError("a gateway is reached over https")
        if unknown := {place for value in self.fields.values() for place in _PLACE.findall(value)} - PLACES:
            raise ValueError(f"no such place in a template: {', '.join(sorted(unknown))}")

    def filled(self, places: Mapping[str, str]) -> dict[str, str]:
        """Return the fields with the places filled; what is filled in is not read for places again."""
        return {name: _PLACE.sub(lambda place: places[place[1]], value) for name, value in self.fields.items()}


class HttpGateway:
    """An SMS provider over one HTTP gateway. Must be made, used and closed within one event loop."""

    def __init__(self, name: str, template: HttpTemplate, tls: ssl.SSLContext, timeout_s: float = 8.0) -> None:
        self.name = name
        self._template = template
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=32),
            timeout=aiohttp.ClientTimeout(total=timeout_s, connect=min(3.0, timeout_s)),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
        """Send one POST; redirects are not followed. See `delivery.SmsProvider`."""
        fields = self._template.filled(
            {
                "phone": phone,
                "phone_digits": phone.removeprefix("+"),
                "text": text,
                "valid_s": str(valid_s),
                "name": name,
            }
        )
        try:
            async with self._session.post(
                self._template.url,
                data=fields if self._template.body == "form" else None,
                json=fields if self._template.body == "json" else None,
                headers=self._template.headers,
                allow_redirects=False,
            ) as answer:
                status, body = answer.status, await _text_of(answer)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise SmsUnavailableError("The SMS provider does not answer.", retry_after_s=5.0) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DeliveryUnknownError from error
        return self._read(status, body)

    def _read(self, status: int, body: str) -> Accepted:
        template = self._template
        if template.unreachable is not None and template.unreachable.search(body):
            raise PhoneUnreachableError("This phone cannot be reached by SMS.")
        if template.refused is not None and template.refused.search(body):
            raise SmsUnavailableError("The SMS provider took nothing.", retry_after_s=5.0)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR or (
            status == HTTPStatus.SERVICE_UNAVAILABLE
        ):
            raise SmsUnavailableError("The SMS provider took nothing.", retry_after_s=5.0)
        is_taken = template.taken is None or template.taken.search(body) is not None
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or not is_taken:
            raise DeliveryUnknownError
        return Accepted(_at(template.reference, body))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _text_of(answer: aiohttp.ClientResponse) -> str:
    """The answer's text as far as it is read; one that is larger is none that is understood."""
    body = await answer.content.read(_MAX_ANSWER_BYTES + 1)
    while len(body) <= _MAX_ANSWER_BYTES and (more := await answer.content.read(_MAX_ANSWER_BYTES + 1 - len(body))):
        body += more
    if len(body) > _MAX_ANSWER_BYTES:
        raise aiohttp.ClientPayloadError("the answer is too large")
    return body.decode("utf-8", "replace")


def _at(way: tuple[str, ...], body: str) -> str:
    """The value at the end of the way, "" where there is none: the SMS was taken all the same."""
    if not way:
        return ""
    try:
        value = json.loads(body)
        for key in way:
            value = value[int(key) if isinstance(value, list) else key]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""
    return str(value)[:128] if isinstance(value, str | int) and not isinstance(value, bool) else ""
