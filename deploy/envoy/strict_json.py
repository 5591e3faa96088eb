"""What strict_json.lua must know of the API: its calls, which takes which message, and which fields a message has."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

# On the request, for the text of the answer; a client's own is dropped before.
UNKNOWN_FIELD_HEADER: Final = "x-finid-unknown-field"
_FILTER: Final = Path(__file__).with_name("strict_json.lua")
_RAW: Final = "google.api.HttpBody"  # any bytes
_LUA_MAGIC: Final = re.compile(r"([\^$()%.\[\]*+\-?])")
VARIABLE: Final = re.compile(r"\{[^}]*\}")
_VERBS: Final = ("get", "post", "put", "patch", "delete")
_WILDCARD: Final = re.compile(r"(\*\*?)")
_WILDCARDS: Final = {"*": "[^/]+", "**": ".+"}


def source(descriptors: Path, services: Sequence[str], route: str) -> str:
    """The filter's Lua source, for the JSON calls of these services, which come by the route of this name."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors.read_bytes()).file:
        pool.Add(file)
    methods = [method for name in services for method in _methods(pool, name)]
    messages: dict[str, Descriptor] = {}
    for method in methods:
        _collect(method.input_type, messages)
    calls = [line for method in methods for line in _call(method)]
    shapes = [_shape(message) for message in messages.values()]
    tables = [f"local ROUTE = {_quoted(route)}", "local METHODS = {", *calls, "}", "local MESSAGES = {", *shapes, "}"]
    return "\n".join([*tables, _FILTER.read_text(encoding="utf-8")])


def _methods(pool: DescriptorPool, service: str) -> Iterator[MethodDescriptor]:
    """The methods of a service but for those that take a raw body."""
    for method in pool.FindServiceByName(service).methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        if method.input_type.full_name != _RAW:
            if rule.body not in ("", "*") or rule.additional_bindings:
                raise ValueError(f'{method.full_name}: only body "*" and one path are known here')
            yield method


def _call(method: MethodDescriptor) -> Iterator[str]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    for verb in _VERBS:
        if template := getattr(rule, verb):
            path = f"^{_pattern(template)}$"
            message = method.input_type.full_name if rule.body else ""
            fields = {"method": verb.upper(), "path": path, "message": message}
            yield "{" + ", ".join(f"{name} = {_quoted(value)}" for name, value in fields.items()) + "},"


def _pattern(template: str) -> str:
    """A path template (google.api.http) as a Lua pattern: `{name=documents/*}` matches documents/ and one segment."""
    parts: list[str] = []
    at = 0
    for variable in VARIABLE.finditer(template):
        parts.append(_literal(template[at : variable.start()]))
        inside = variable[0][1:-1].partition("=")[2] or "*"
        parts += [_WILDCARDS.get(piece) or _literal(piece) for piece in _WILDCARD.split(inside)]
        at = variable.end()
    return "".join([*parts, _literal(template[at:])])


def _literal(text: str) -> str:
    return _LUA_MAGIC.sub(r"%\1", text)


def _collect(message: Descriptor, found: dict[str, Descriptor]) -> None:
    if message.full_name in found or message.full_name.startswith("google.protobuf."):
        return
    found[message.full_name] = message
    for field in message.fields:
        if field.message_type is not None:
            _collect(field.message_type, found)


def _shape(message: Descriptor) -> str:
    entries = []
    for field in message.fields:
        value = f"{{name = {_quoted(field.name)}, message = {_quoted(_message_of(field))}}}"
        # protobuf's JSON mapping takes both spellings.
        entries += [f"[{_quoted(name)}] = {value}" for name in sorted({field.name, field.json_name})]
    return f"[{_quoted(message.full_name)}] = {{{', '.join(entries)}}},"


def _message_of(field: FieldDescriptor) -> str:
    """The message that a field holds; "" for scalars, and for messages whose JSON is no object (time stamps)."""
    message = field.message_type
    if message is None or message.full_name.startswith("google.protobuf."):
        return ""
    if message.GetOptions().map_entry:
        raise ValueError(f"{field.full_name}: maps are not known here")
    return message.full_name


def _quoted(text: str) -> str:
    return json.dumps(text)  # for these characters, Lua's literals are JSON's
