"""What tests and the mesh say to each other over REST: the personal and secret values of it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

# Fields of requests and answers, and what a value must look like to be one: tests send nonsense as well.
_TOKEN = re.compile(r"[A-Za-z0-9_.~+/=-]{16,}")
_NAME = re.compile(r"[^\s]{5,64}")
_FIELDS: dict[str, re.Pattern[str]] = {
    "iin": re.compile(r"[0-9]{11,12}"),
    "phone": re.compile(r"\+[0-9]{9,15}"),
    "code": re.compile(r"[0-9]{6,10}"),
    **dict.fromkeys(("token", "resultCode", "codeVerifier", "access_token", "iinSalt", "phoneSalt"), _TOKEN),
    **dict.fromkeys(("familyName", "givenName", "patronymic", "familyNameLatin", "givenNameLatin"), _NAME),
    **dict.fromkeys(("birthDate", "documentNumber"), re.compile(r"[0-9-]{8,12}")),
}
_IMAGES = frozenset({"jpeg", "content", "data"})
_SLICE = 60
"""So many characters from the middle of an image's or a document's base64 stand for it: their beginnings are alike."""


@dataclass(slots=True)
class Heard:
    """Values, and what each is."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    calls: int = 0

    def exchange(self, request: httpx.Request, answer: httpx.Response) -> None:
        """Take what one call says in its headers and bodies."""
        self.calls += 1
        for header in ("authorization", "cookie"):
            for part in request.headers.get(header, "").split(";"):
                self._keep(header, re.split(r"[ =]", part.strip(), maxsplit=1)[-1])
        for cookie in answer.headers.get_list("set-cookie"):
            self._keep("cookie", cookie.partition(";")[0].partition("=")[2])
        for content in (_content(request), _content(answer)):
            try:
                self._walk(json.loads(content))
            except ValueError:
                continue

    def _walk(self, value: Any, name: str = "") -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                self._walk(item, key)
        elif isinstance(value, list):
            for item in value:
                self._walk(item, name)
        elif isinstance(value, str):
            self._field(name, value)

    def _field(self, name: str, value: str) -> None:
        if name in _FIELDS and _FIELDS[name].fullmatch(value):
            self.values[value] = name
        elif name == "receipts":
            self._keep("receipt", value)
        elif name in _IMAGES and len(value) > 2 * _SLICE:
            middle = len(value) // 2
            self.values[value[middle : middle + _SLICE]] = "content"
        elif name == "captureUri":
            self._keep("capture token", urlsplit(value).fragment)
        elif name == "redirectUri":
            for code in parse_qs(urlsplit(value).query).get("code", []):
                self._keep("result code", code)

    def _keep(self, what: str, value: str) -> None:
        if len(value) >= 16:
            self.values[value] = what


def _content(message: httpx.Request | httpx.Response) -> bytes:
    try:
        return message.content
    except (httpx.RequestNotRead, httpx.ResponseNotRead):
        return b""


@contextmanager
def listening() -> Iterator[Heard]:
    """Note what goes through httpx's clients, which all REST calls of tests and of the demonstration use."""
    heard, send, send_async = Heard(), httpx.Client.send, httpx.AsyncClient.send

    def noted(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = send(client, request, **options)
        heard.exchange(request, answer)
        return answer

    async def noted_async(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
        answer = await send_async(client, request, **options)
        heard.exchange(request, answer)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", noted)
        patch.setattr(httpx.AsyncClient, "send", noted_async)
        yield heard
