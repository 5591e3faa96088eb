"""Loaded by schemathesis (SCHEMATHESIS_HOOKS)."""

import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

from deploy.local.state import CHECKOUT
from tests.e2e.fuzz import formats  # noqa: F401  registers them

# OCSP and time stamp requests are DER, which no schema describes: any bytes, and such as begin like one.
_DER = st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"\x30" + bytes([len(data)]) + data)
for media_type in ("application/ocsp-request", "application/timestamp-query"):
    schemathesis.openapi.media_type(media_type, _DER)


_SCHEMAS = json.loads((CHECKOUT / "gen" / "openapi.json").read_text())["components"]["schemas"]
_ENUMS = {f"#/components/schemas/{name}" for name, schema in _SCHEMAS.items() if "enum" in schema}


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    """Without what protobuf's JSON also takes: null for an absent field, an enum by its number.

    Nobody should send them, so the document does not say so.
    """
    raw = case.operation.definition.raw
    schema = raw.get("requestBody", {}).get("content", {}).get("application/json", {})
    enums = {item["name"] for item in raw.get("parameters", []) if item.get("schema", {}).get("$ref") in _ENUMS}
    if any(name in enums and str(value).isdecimal() for name, value in (case.query or {}).items()):
        return False
    return not _is_taken(case.body, schema.get("schema", {}))


def _is_taken(value: Any, schema: Any) -> bool:
    reference = schema.get("$ref")
    if value is None or (reference in _ENUMS and isinstance(value, int)):
        return True
    schema = _SCHEMAS[reference.rpartition("/")[2]] if reference else schema
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return any(_is_taken(item, properties.get(name, {})) for name, item in value.items())
    return isinstance(value, list) and any(_is_taken(item, schema.get("items", {})) for item in value)
