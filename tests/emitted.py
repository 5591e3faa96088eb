"""What a running mesh has emitted (logs, spans, names of metrics), searched for values that nothing may emit.

A value is looked for as it is, percent-encoded, JSON-escaped, in hex, and in base64 wherever it may begin within what
was encoded; numbers of people also in part and masked too little. Beside the values that were used there are shapes
that are a leak whoever's they are: tokens, pictures, private keys, IINs and phones.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes, urlsplit

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from services.registry.iin import is_checksummed

# A number stands alone: neither in an identifier (hex, base32, base64url, a UUID) nor in a longer number.
_ALONE = r"(?<![0-9A-Za-z_.-]){}(?![0-9A-Za-z_-])"
_LONG_ENOUGH = 7  # characters of an encoded form that nothing else holds by chance
_PART_DIGITS = 8  # so many digits of an IIN or a phone in a row are too many
_HIDDEN_DIGITS = 4  # what is masked hides at least so many
_FEW_DIGITS = 4  # different ones in a part that can be told from a counter
_IIN_DIGITS = 12
_SHAPES: Mapping[str, re.Pattern[str]] = {
    "a signed token": re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "an authorization header": re.compile(r"\b(?:Bearer|Basic) [A-Za-z0-9+/_-]{8,}"),
    "a JPEG in base64": re.compile(r"/9j/[A-Za-z0-9+/]{16}"),
    "a JPEG in hex": re.compile(r"ffd8ffe0|ffd8ffdb", re.IGNORECASE),
    "a private key": re.compile(r"PRIVATE KEY-----"),
    "a phone": re.compile(_ALONE.format(r"\+?77[0-9]{9}")),
}
_JPEG = b"\xff\xd8\xff"
_IIN = re.compile(_ALONE.format(r"[0-9]{12}"))
_MASKED = re.compile(r"\+?[0-9*•·#xX]{9,16}")
_MASK = re.compile(r"[*•·#xX]+")

# What may hold any number or identifier, by its name, where it has the shape that belongs there.
_HARMLESS: Mapping[str, re.Pattern[str]] = {
    "timestamp": re.compile(r"[0-9T:.Z+-]{20,32}"),
    "time": re.compile(r"[0-9T:.Z+-]{20,32}"),
    "trace_id": re.compile(r"[0-9a-f]{32}"),
    "span_id": re.compile(r"[0-9a-f]{16}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "guid:x-request-id": re.compile(r"[0-9a-f-]{36}"),
    **dict.fromkeys(("duration_ms", "bytes_received", "bytes_sent"), re.compile(r"[0-9.]+")),
    **dict.fromkeys(("request_size", "response_size", "count"), re.compile(r"[0-9]+")),
}
_PROCESS = re.compile(r"(?<=pid )[0-9]+|(?<=process )[0-9]+|(?<=PID )[0-9]+|(?<=\[)[0-9]+(?=\])")


@dataclass(frozen=True, slots=True)
class Leak:
    """Where something stands that may not, and what: never the value itself, since a test's output is a log, too."""

    place: str
    what: str
    form: str


def leaks(places: Mapping[str, Iterable[str]], values: Mapping[str, str]) -> list[Leak]:
    """Search each place's texts for every value (value: what it is) in all its forms, and for shapes of any."""
    needles = {(what, form, needle) for value, what in values.items() for form, needle in _forms(value)}
    alone = [(what, form, re.compile(_ALONE.format(needle))) for what, form, needle in needles if needle.isdigit()]
    inside = [item for item in needles if not item[2].isdigit()]
    people = [value.lstrip("+") for value, what in values.items() if what in {"iin", "phone"}]
    found: set[Leak] = set()
    for place, texts in places.items():
        text = "\n".join(texts)
        found |= {Leak(place, what, form) for what, form, needle in inside if needle in text}
        found |= {Leak(place, what, form) for what, form, pattern in alone if pattern.search(text)}
        found |= {Leak(place, what, "by its shape") for what, pattern in _SHAPES.items() if pattern.search(text)}
        if any(is_checksummed(number) for number in _IIN.findall(text)):
            found.add(Leak(place, "an IIN", "by its shape"))
        if any(_shows(masked, number) for masked in set(_MASKED.findall(text)) for number in people):
            found.add(Leak(place, "an IIN or a phone", "masked too little"))
    return sorted(found, key=lambda leak: (leak.place, leak.what, leak.form))


def _forms(value: str) -> Iterator[tuple[str, str]]:
    digits = value.lstrip("+")
    yield "as it is", digits if digits.isdigit() else value
    if digits.isdigit() and len(digits) > _PART_DIGITS:
        for part in (digits[:_PART_DIGITS], digits[-_PART_DIGITS:]):
            if len(set(part)) >= _FEW_DIGITS:
                yield "in part", part
    for form, encoded in (
        ("percent-encoded", quote(value, safe="")),
        ("percent-encoded", quote_plus(value)),
        ("escaped", json.dumps(value)[1:-1]),
        ("escaped", value.encode("unicode_escape").decode()),
    ):
        if encoded not in {value, digits} and not encoded.isdigit():
            yield form, encoded
    for text in {value, digits}:
        for form, encoded in _encoded(text.encode()):
            if len(encoded) >= _LONG_ENOUGH and not encoded.isdigit():
                yield form, encoded


def _encoded(data: bytes) -> Iterator[tuple[str, str]]:
    yield "in hex", data.hex()
    yield "in hex", data.hex().upper()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data).decode()
        # Only characters that are made of nothing but the value.
        own = whole[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield "in base64", own
        yield "in base64", own.replace("+", "-").replace("/", "_")


def _shows(masked: str, number: str) -> bool:
    """Whether a masked number is this one with too few of its digits hidden."""
    shown = _MASK.split(masked.lstrip("+"))
    if len(shown) < 2 or not number.startswith(shown[0]) or not number.endswith(shown[-1]):
        return False
    return sum(map(len, shown)) > len(number) - _HIDDEN_DIGITS


def log_texts(path: Path) -> set[str]:
    """The strings of a log that can hold something: of JSON lines names and values, of others the line."""
    content = path.read_bytes()
    texts = {"a JPEG: ffd8ffe0"} if _JPEG in content else set()
    for line in content.decode(errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        texts |= set(_strings(value)) if isinstance(value, dict) else {_PROCESS.sub("", line)}
    return texts


def _strings(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, name)
    elif value is not None and not _is_harmless(name, str(value)):
        yield str(value)


def _is_harmless(name: str, value: str) -> bool:
    shape = _HARMLESS.get(name)
    return shape is not None and shape.fullmatch(value) is not None


def span_texts(exported: Iterable[ResourceSpans]) -> set[str]:
    """The strings of spans: names, attributes, events, what a status says; of their resources, too."""
    texts: set[str] = set()
    for group in exported:
        texts |= set(_attributes(group.resource.attributes))
        for span in (span for scope in group.scope_spans for span in scope.spans):
            texts |= {span.name, span.status.message, span.trace_state, *_attributes(span.attributes)}
            for event in span.events:
                texts |= {event.name, *_attributes(event.attributes)}
            for link in span.links:
                texts |= {link.trace_state, *_attributes(link.attributes)}
    return texts


def _attributes(pairs: Iterable[KeyValue]) -> Iterator[str]:
    for pair in pairs:
        yield pair.key
        yield from _values(pair.key, pair.value)


def _values(name: str, value: AnyValue) -> Iterator[str]:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        for item in value.array_value.values:
            yield from _values(name, item)
    elif kind == "kvlist_value":
        yield from _attributes(value.kvlist_value.values)
    elif kind == "bytes_value":
        yield value.bytes_value.hex()
    elif kind and not _is_harmless(name, text := str(getattr(value, kind))):
        yield text


def secret_values(folder: Path) -> dict[str, str]:
    """What the files of a state's folder keep secret: passwords, keys, tokens' PINs."""
    values: dict[str, str] = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        content = path.read_bytes()
        try:
            text = content.decode().strip()
        except UnicodeDecodeError:
            values[content.hex()] = f"secret {path.name}"
            continue
        if "://" in text:
            secret = [unquote_to_bytes(urlsplit(text).password or "").decode()]
        elif "PRIVATE KEY-----" in text:
            secret = [line for line in text.splitlines() if not line.startswith("-----") and len(line) > 40]
        elif text.startswith(("{", "[")):
            value = json.loads(text)
            secret = [str(value.get("d", ""))] if isinstance(value, dict) else []  # a JWK's private half
        elif text.startswith("-----BEGIN"):
            secret = []  # certificates are public
        else:
            secret = [text]
        values |= {item: f"secret {path.name}" for item in secret if len(item) >= _PART_DIGITS}
    return values


def number_of_people(people: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What identifies the sandbox's people: numbers, names, dates of birth."""
    values: dict[str, str] = {}
    for person in people:
        for name in ("iin", "phone", "birth_date", "document_number"):
            values[str(person[name])] = name
        for name in ("family_name", "given_name", "patronymic", "family_name_latin", "given_name_latin"):
            if len(str(person[name])) > _FEW_DIGITS:
                values[str(person[name])] = name
    values.pop("", None)
    return values
