"""Every REST call of the demonstration, as an .http file: what an integrator may paste, secrets and persons masked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What a bank's own log must not hold either.
_MASKED = frozenset(
    {
        "iin", "phone", "token", "code", "resultCode", "codeVerifier", "access_token", "client_secret", "iinSalt",
        "phoneSalt", "captureUri", "redirectUri", "familyName", "givenName", "patronymic", "familyNameLatin",
        "givenNameLatin", "birthDate", "documentNumber", "maskedPhone", "receipts", "transaction", "signerSubject",
        "chain", "reportHtml",
    }
)  # fmt: skip
_LONG = 200


def masked(value: Any, name: str = "") -> Any:
    """Return JSON with personal data, secrets and long binary values replaced."""
    if isinstance(value, dict):
        return {key: masked(item, key) for key, item in value.items()}
    if isinstance(value, list) and name not in _MASKED:
        return [masked(item) for item in value]
    if name in _MASKED:
        return "***"
    if isinstance(value, str) and len(value) > _LONG:
        return f"{value[:24]}… ({len(value)} characters)"
    return value


class RequestLog:
    """Collects calls and writes them as one .http file."""

    def __init__(self) -> None:
        self._entries: list[str] = []

    def record(self, method: str, url: str, headers: Mapping[str, str], body: str, status: int, answer: str) -> None:
        """Add one call; `body` and `answer` are already masked."""
        shown = "\n".join(f"{name}: {value}" for name, value in headers.items())
        answer_lines = "\n".join(f"# {line}" for line in answer.splitlines())
        self._entries.append(f"{method} {url}\n{shown}\n\n{body}\n\n# HTTP {status}\n{answer_lines}\n")

    def write(self, path: Path) -> None:
        """Write all calls, in order."""
        path.write_text("###\n".join(self._entries), encoding="utf-8")


def as_text(value: Any) -> str:
    """Return masked JSON as text; "" for nothing."""
    return json.dumps(masked(value), ensure_ascii=False, indent=2) if value is not None else ""
