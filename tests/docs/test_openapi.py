"""The generated OpenAPI document says what the protos say."""

import json
import re
from collections.abc import Iterator
from typing import Any

import protovalidate
import pytest
from finid.auth.v1 import auth_pb2
from finid.esign.v1 import esign_pb2
from finid.pki.v1 import pki_pb2
from google.api import annotations_pb2
from google.protobuf import json_format, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import openapi

from deploy.local.state import CHECKOUT
from proto.openapi.schemas import below
from tests.e2e.fuzz import formats  # noqa: F401  registers them

DOCUMENT: dict[str, Any] = json.loads((CHECKOUT / "gen" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
METHODS = {
    f"{service.name}_{method.name}": method
    for file in (auth_pb2, esign_pb2, pki_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
OPERATIONS = {
    operation["operationId"]: operation for verbs in DOCUMENT["paths"].values() for operation in verbs.values()
}
ALLOWED = openapi.from_dict(DOCUMENT)
POSTED = re.compile(r"\{([a-z_]+)=([^}]+)\}")
BODIES = {
    name: operation["requestBody"]["content"]["application/json"]["schema"]
    for name, operation in OPERATIONS.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
}


def test_it_is_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_method_with_a_path_is_there_and_nothing_else() -> None:
    with_path = {
        name for name, method in METHODS.items() if method.GetOptions().Extensions[annotations_pb2.http].ByteSize()
    }
    assert set(OPERATIONS) - {"Portal_Token", "Portal_Keys"} == with_path
    assert set(METHODS) - with_path == {"FinIdService_Authenticate"}


@pytest.mark.parametrize("name", [name for name in METHODS if name in OPERATIONS])
def test_each_operation_is_described_and_says_what_it_needs(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["responses"].keys() >= {"200", "400", "401", "default"}
    open_to_all = name.startswith("PkiService_")
    assert bool(operation["security"]) is not open_to_all


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_sent_is_closed_and_every_reference_leads_somewhere(name: str) -> None:
    for reference in _references(SCHEMAS[name]):
        assert reference.removeprefix("#/components/schemas/") in SCHEMAS


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_may_be_sent_breaks_no_rule(name: str, data: st.DataObject) -> None:
    """Schemathesis reads the document, protovalidate is the judge."""
    method = METHODS[name]
    case = data.draw(ALLOWED.find_operation_by_id(name).as_strategy())
    body = case.body
    assert isinstance(body, dict)
    request = json_format.ParseDict(body, message_factory.GetMessageClass(method.input_type)())
    for value in case.path_parameters.values():
        variable = POSTED.search(method.GetOptions().Extensions[annotations_pb2.http].post)
        assert variable is not None
        setattr(request, variable[1], variable[2].replace("*", value))
    protovalidate.validate(request)


@pytest.mark.parametrize("name", BODIES)
def test_without_a_required_field_a_rule_is_broken(name: str) -> None:
    method = METHODS[name]
    for field in BODIES[name].get("required", []):
        request = message_factory.GetMessageClass(method.input_type)()
        proto = next(item for item in method.input_type.fields if item.json_name == field)
        violations = [violation.proto.field for violation in protovalidate.collect_violations(request)]
        broken = {field.elements[0].field_name for field in violations if field is not None}
        assert proto.name in broken


def test_the_reference_page_has_every_operation_and_schema_and_no_script() -> None:
    page = (CHECKOUT / "gen" / "reference.html").read_text()
    for anchor in (
        *OPERATIONS,
        *(f"schema-{name.replace('.', '-')}" for name in SCHEMAS if name != "google.rpc.Status"),
    ):
        assert f'id="{anchor}"' in page
    assert "<script" not in page
    assert "http://" not in page.replace("http://127", "")


@given(number=st.integers(0, 2_000_000), limit=st.integers(2, 1_000_000))
def test_pattern_of_numbers_below_a_limit_is_exact(number: int, limit: int) -> None:
    assert bool(re.fullmatch(below(limit), str(number))) is (number < limit)
    assert not re.fullmatch(below(limit), f"0{number}")


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
