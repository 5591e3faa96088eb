"""JSON schemas of messages and enums, in protobuf's JSON mapping and with protovalidate's rules."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto

from proto.openapi.options import Comments, Options

Json = dict[str, Any]

_F: Final = FieldDescriptorProto
_WELL_KNOWN: Final[dict[str, Json]] = {".google.protobuf.Timestamp": {"type": "string", "format": "date-time"}}
RAW: Final = ".google.api.HttpBody"


class UnsupportedError(Exception):
    """The API uses something that this plugin has no schema for; says what and where."""


@dataclass(frozen=True, slots=True)
class Element:
    """A message or an enum of the protos, with the file's comments and its path there."""

    proto: DescriptorProto | EnumDescriptorProto
    comments: Comments
    path: tuple[str | int, ...]


class Schemas:
    """Makes the schemas that operations refer to, and those these refer to."""

    def __init__(self, elements: dict[str, Element], options: Options) -> None:
        """`elements` by their full names with a dot in front, as fields refer to them."""
        self._elements = elements
        self._options = options
        self.made: dict[str, Json] = {}

    def message(self, full_name: str) -> DescriptorProto:
        """Return the message of this name."""
        proto = self._elements[full_name].proto
        if not isinstance(proto, DescriptorProto):
            raise UnsupportedError(f"{full_name} is no message")
        return proto

    def response(self, full_name: str) -> Json:
        """A reference to what an answer holds. What is no message is always there (always_print_primitive_fields)."""
        return self._reference(full_name, self._answer)

    def request(self, full_name: str) -> Json:
        """A reference to what a body may hold."""
        return self._reference(full_name, self._body)

    def body(self, full_name: str, without: frozenset[str]) -> Json:
        """A request's own schema; fields that the path holds are left out."""
        return self._body(full_name, without)

    def field(self, full_name: str, name: str) -> tuple[Json, bool]:
        """The schema of one field of a request, and whether it must be there."""
        for number, field in enumerate(self.message(full_name).field):
            if field.name == name:
                rules = self._options.rules(field.options)
                return self._field(full_name, number, field, self.request), _is_required(field, rules)
        raise UnsupportedError(f"{full_name} has no field {name}")

    def _reference(self, full_name: str, make: Callable[[str], Json]) -> Json:
        if full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[full_name])
        name = full_name.lstrip(".")
        if name not in self.made:
            self.made[name] = {}  # so that a message may hold itself
            self.made[name] = make(full_name)
        return {"$ref": f"#/components/schemas/{name}"}

    def _answer(self, full_name: str) -> Json:
        element = self._elements[full_name]
        if isinstance(element.proto, EnumDescriptorProto):
            return _enum(element.proto, element)
        properties = {
            field.json_name: self._field(full_name, number, field, self.response)
            for number, field in enumerate(element.proto.field)
        }
        required = [field.json_name for field in element.proto.field if _is_printed(field)]
        return _object(element, properties, required)

    def _body(self, full_name: str, without: frozenset[str] = frozenset()) -> Json:
        element = self._elements[full_name]
        if isinstance(element.proto, EnumDescriptorProto):
            return _enum(element.proto, element)
        fields = [(n, field) for n, field in enumerate(element.proto.field) if field.name not in without]
        properties = {field.json_name: self._field(full_name, n, field, self.request) for n, field in fields}
        required = [f.json_name for _, f in fields if _is_required(f, self._options.rules(f.options))]
        return _object(element, properties, required) | {"additionalProperties": False}

    def _field(self, owner: str, number: int, field: FieldDescriptorProto, refer: Callable[[str], Json]) -> Json:
        element = self._elements[owner]
        described = element.comments.at(*element.path, "field", number)
        rules = self._options.rules(field.options)
        if field.label == _F.LABEL_REPEATED:
            of_list: Json = rules.get("repeated", {})
            schema: Json = {"type": "array", "items": _value(owner, field, of_list.get("items", {}), refer)}
            schema |= {name: int(of_list[rule]) for rule, name in _LIST_RULES if rule in of_list}
            if of_list.get("unique"):
                schema["uniqueItems"] = True
        else:
            schema = _value(owner, field, rules, refer)
        return schema | ({"description": described} if described else {})


_LIST_RULES: Final = (("min_items", "minItems"), ("max_items", "maxItems"))
# By the ids of rules in CEL. An IIN's last digit checks the others; this name is ours.
_FORMATS: Final = {"iin.check_digit": "iin", "redirect_uri.absolute": "uri"}
_LENGTH_RULES: Final = (("min_len", "minLength"), ("max_len", "maxLength"))
_BOUNDS: Final = (("gte", "minimum"), ("gt", "exclusiveMinimum"), ("lte", "maximum"), ("lt", "exclusiveMaximum"))


def _value(owner: str, field: FieldDescriptorProto, rules: Json, refer: Callable[[str], Json]) -> Json:
    if field.type == _F.TYPE_MESSAGE:
        return refer(field.type_name)
    if field.type == _F.TYPE_ENUM:
        return refer(field.type_name) | _excluded(rules.get("enum", {}))
    if field.type not in _SCALARS:
        raise UnsupportedError(f"{owner}.{field.name} is of type {field.type}")
    return _SCALARS[field.type](rules)


def _string(rules: Json) -> Json:
    own: Json = rules.get("string", {})
    lengths = {name: int(own[rule]) for rule, name in _LENGTH_RULES if rule in own} | _format(rules)
    return {"type": "string"} | ({"pattern": own["pattern"]} if "pattern" in own else {}) | lengths


def _format(rules: Json) -> Json:
    """What a rule in CEL says, as far as a schema can: by the name of a format."""
    try:
        (name,) = [_FORMATS[rule["id"]] for rule in rules["cel"]]
    except KeyError as error:
        if "cel" not in rules:
            return {}
        raise UnsupportedError(f"no format says what the rule {error} does") from error
    return {"format": name}


def _bytes(rules: Json) -> Json:
    own: Json = rules.get("bytes", {})
    shortest = {"minLength": -(-4 * int(own["min_len"]) // 3)} if "min_len" in own else {}  # padding may be left out
    longest = {"maxLength": 4 * -(-int(own["max_len"]) // 3)} if "max_len" in own else {}
    return {"type": "string", "contentEncoding": "base64", "format": "byte"} | shortest | longest


def _int32(rules: Json) -> Json:
    return {"type": "integer", "format": "int32"} | _bounds(rules.get("int32", {}))


def _int64(rules: Json) -> Json:
    # protobuf's JSON writes them as strings and reads both.
    bounds = _bounds(rules.get("int64", {}))
    if not bounds:
        return {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}
    if bounds.keys() != {"minimum", "exclusiveMaximum"} or bounds["minimum"] != 0:
        raise UnsupportedError("64-bit numbers are known without bounds, or from 0 to less than another")
    number = {"type": "integer", "format": "int64"} | bounds
    return {"anyOf": [number, {"type": "string", "pattern": f"^({below(bounds['exclusiveMaximum'])})$"}]}


def below(limit: int) -> str:
    """A pattern of the whole numbers from 0 to less than `limit`, which is above 1, without leading zeros."""
    largest = str(limit - 1)
    shorter = [f"[1-9][0-9]{{0,{len(largest) - 2}}}"] if len(largest) > 1 else []
    as_long = [
        f"{largest[:place]}[{1 if place == 0 else 0}-{int(digit) - 1}][0-9]{{{len(largest) - place - 1}}}"
        for place, digit in enumerate(largest)
        if int(digit) > (1 if place == 0 else 0)
    ]
    return "|".join(["0", *shorter, *as_long, largest])


_SCALARS: Final[dict[int, Callable[[Json], Json]]] = {
    _F.TYPE_STRING: _string,
    _F.TYPE_BYTES: _bytes,
    _F.TYPE_BOOL: lambda _: {"type": "boolean"},
    _F.TYPE_INT32: _int32,
    _F.TYPE_INT64: _int64,
}


def _bounds(rules: Json) -> Json:
    return {name: int(rules[rule]) for rule, name in _BOUNDS if rule in rules}


def _excluded(rules: Json) -> Json:
    # Enums here have their "unspecified" as 0, and nothing else is ever excluded.
    if rules.get("not_in", [0]) != [0]:
        raise UnsupportedError("only the enums' first value can be excluded")
    return {"not": {"pattern": "_UNSPECIFIED$"}} if "not_in" in rules else {}


def _enum(proto: EnumDescriptorProto, element: Element) -> Json:
    described = element.comments.at(*element.path)
    values = [value.name for value in proto.value]
    lines = [
        f"- `{value.name}`: {text}"
        for number, value in enumerate(proto.value)
        if (text := element.comments.at(*element.path, "value", number).replace("\n\n", " "))
    ]
    text = "\n\n".join(part for part in (described, "\n".join(lines)) if part)
    return {"type": "string", "enum": values} | ({"description": text} if text else {})


def _object(element: Element, properties: Json, required: list[str]) -> Json:
    described = element.comments.at(*element.path)
    return (
        {"type": "object"}
        | ({"description": described} if described else {})
        | {"properties": properties}
        | ({"required": required} if required else {})
    )


def _is_printed(field: FieldDescriptorProto) -> bool:
    return not field.HasField("oneof_index") and (field.label == _F.LABEL_REPEATED or field.type != _F.TYPE_MESSAGE)


def _is_required(field: FieldDescriptorProto, rules: Json) -> bool:
    """Whether a body without the field breaks a rule: an absent one counts as empty, or 0."""
    if rules.get("required"):
        return True
    if field.label == _F.LABEL_REPEATED:
        return int(rules.get("repeated", {}).get("min_items", 0)) > 0
    if field.type == _F.TYPE_STRING:
        own = rules.get("string", {})
        return int(own.get("min_len", 0)) > 0 or ("pattern" in own and re.search(own["pattern"], "") is None)
    if field.type == _F.TYPE_BYTES:
        return int(rules.get("bytes", {}).get("min_len", 0)) > 0
    return field.type == _F.TYPE_ENUM and "not_in" in rules.get("enum", {})
