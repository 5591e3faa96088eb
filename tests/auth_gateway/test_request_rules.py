"""What requests must be: every field has a rule, and every broken one is named at once."""

from collections.abc import Iterator
from typing import Any

import protovalidate
import pytest
from buf.validate import validate_pb2
from finid.auth.v1 import auth_pb2 as auth
from finid.ca.v1 import ca_pb2
from finid.capture.v1 import capture_pb2
from finid.documents.v1 import documents_pb2
from finid.esign.v1 import esign_pb2 as esign
from finid.facematch.v1 import facematch_pb2
from finid.liveness.v1 import liveness_pb2
from finid.otp.v1 import otp_pb2
from finid.pki.v1 import pki_pb2
from finid.portal.v1 import portal_pb2
from finid.registry.v1 import registry_pb2
from finid.signer.v1 import signer_pb2
from finid.sms.v1 import sms_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.errors import InvalidArgumentError
from mesh.server import validate
from services.auth_gateway.phones import PhoneNumbers
from services.auth_gateway.servicer.rules import Rules
from services.registry import iin as iins
from tests.auth_gateway.edge import Edge, refused
from tests.auth_gateway.fakes import REDIRECT_URI
from tests.auth_gateway.room import CHALLENGE
from tests.auth_gateway.visits import create, issue
from tests.bundles import IIN, PHONE

EVERY_FILE = (
    *(auth.DESCRIPTOR, capture_pb2.DESCRIPTOR, esign.DESCRIPTOR, pki_pb2.DESCRIPTOR, ca_pb2.DESCRIPTOR),
    *(documents_pb2.DESCRIPTOR, facematch_pb2.DESCRIPTOR, liveness_pb2.DESCRIPTOR, otp_pb2.DESCRIPTOR),
    *(portal_pb2.DESCRIPTOR, registry_pb2.DESCRIPTOR, signer_pb2.DESCRIPTOR, sms_pb2.DESCRIPTOR),
)
# Without a rule, and why: there is nothing that it must not be.
FREE = {
    "google.api.HttpBody": "raw bytes; the servicer judges media type and length",
    "google.protobuf.Timestamp": "any time",
}
RULES = Rules(PhoneNumbers(["KZ"]))


def requests() -> Iterator[Descriptor]:
    for file in EVERY_FILE:
        for service in file.services_by_name.values():
            for method in service.methods:
                yield method.input_type


def fields(message: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    if message.full_name in seen or message.full_name in FREE:
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from fields(field.message_type, seen)


def has_rule(field: FieldDescriptor) -> bool:
    """Whether anything is said of what the field may hold; a yes or no may be either, a message has its fields."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.type == FieldDescriptor.TYPE_MESSAGE and not field.is_repeated:
        return True
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if field.is_repeated:
        bounded = rules.repeated.HasField("max_items")
        return bounded and (field.type == FieldDescriptor.TYPE_MESSAGE or rules.repeated.HasField("items"))
    return rules.WhichOneof("type") is not None


def test_every_field_of_every_request_has_a_rule() -> None:
    seen: set[str] = set()
    every = [field for request in requests() for field in fields(request, seen)]
    assert len(every) > 150
    assert [field.full_name for field in every if not has_rule(field)] == []


def broken(request: Any) -> dict[str, str]:
    """The fields that are named, each once, with their rules."""
    with pytest.raises(InvalidArgumentError) as refusal:
        validate(request, RULES)
    assert refusal.value.reason == "INVALID_REQUEST"
    named = {violation.field: violation.description for violation in refusal.value.violations}
    assert len(named) == len(refusal.value.violations)
    return named


def test_all_that_is_wrong_is_named_at_once() -> None:
    asked = auth.CreateAuthenticationRequest(
        request_id="short",
        subject=auth.Subject(iin="900101300018", phone="+77010000"),
        channel=auth.CHANNEL_HOSTED,
        scopes=[auth.SCOPE_NAME, auth.SCOPE_NAME],
        return_to=auth.ReturnTo(redirect_uri="not a uri"),
        language=77,  # type: ignore[arg-type]  # what another version might send
    )
    everything = {
        "request_id",
        "subject.iin",
        "subject.phone",
        "scopes",
        "return_to.redirect_uri",
        "return_to.code_challenge",
        "language",
    }
    assert broken(asked).keys() == everything
    in_a_stream = broken(auth.AuthenticateRequest(create=asked))
    assert in_a_stream.keys() == {f"create.{name}" for name in everything}


def test_all_that_is_wrong_with_an_order_is_named_at_once() -> None:
    asked = issue(profile="gold", subject=auth.Subject(iin=IIN, phone="+4915123456789"), return_to=auth.ReturnTo())
    assert broken(asked) == {
        "profile": "must be one of individual-sign",
        "subject.phone": "must be a phone number of KZ",
        "return_to.redirect_uri": "is required for the hosted channel",
        "return_to.code_challenge": "is required for the hosted channel",
    }


def with_nul(message: Descriptor, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The path of each string that a message may hold, wherever it is, and the message with U+0000 in that one."""
    for field in message.fields:
        index = "[0]" if field.is_repeated else ""
        made = GetMessageClass(message)()
        if field.type == FieldDescriptor.TYPE_STRING:
            if field.is_repeated:
                getattr(made, field.name).append("a\0b")
            else:
                setattr(made, field.name, "a\0b")
            yield f"{field.name}{index}", made
        elif field.message_type is not None and field.message_type.full_name not in above:
            for path, inside in with_nul(field.message_type, (*above, field.message_type.full_name)):
                made = GetMessageClass(message)()
                held = getattr(made, field.name)
                (held.add() if field.is_repeated else held).CopyFrom(inside)
                yield f"{field.name}{index}.{path}", made


def test_u_0000_is_refused_in_every_string_of_every_request() -> None:
    cases = [(message, *case) for message in {item.full_name: item for item in requests()}.values()
             for case in with_nul(message)]  # fmt: skip
    assert len(cases) > 100
    for message, path, request in cases:
        with pytest.raises(InvalidArgumentError) as refusal:
            validate(request)
        assert path in {violation.field for violation in refusal.value.violations}, message.full_name


def test_only_the_text_with_u_0000_is_named() -> None:
    asked = create(return_to=auth.ReturnTo(redirect_uri=REDIRECT_URI, code_challenge=CHALLENGE, state="a\0b"))
    assert broken(asked) == {"return_to.state": "must not hold U+0000"}


def test_what_is_right_passes() -> None:
    validate(create(), RULES)
    validate(issue(), RULES)
    validate(create(auth.CHANNEL_STEPS, return_to=None), RULES)


def checked(first_eleven: int) -> str:
    digits = f"{first_eleven:011d}"
    return f"{digits}{iins.check_digit(digits) or 0}"


@given(st.from_regex(r"[0-9]{12}", fullmatch=True) | st.integers(0, 10**11 - 1).map(checked))
@example("000000000000")
@example("900101300017")
def test_the_protos_check_digit_is_the_decrees(iin: str) -> None:
    found = protovalidate.collect_violations(auth.Subject(iin=iin, phone=PHONE))
    assert [violation.proto.rule_id for violation in found] == ([] if iins.is_checksummed(iin) else ["iin.check_digit"])


PHONES = {
    "+77011234567": "",
    "+77990000000": "",  # of a range that nobody may have been given yet
    "+79161234567": "must be a phone number of KZ",
    "+4915123456789": "must be a phone number of KZ",
    "+7701123456": "must be a phone number that there can be",
    "+770112345678": "must be a phone number that there can be",
    "+99912345678": "must be a phone number that there can be",
    "87011234567": "",  # the proto names it
    "+0123": "",
}


@pytest.mark.parametrize(("phone", "fault"), PHONES.items(), ids=PHONES)
def test_a_phone_is_one_that_there_can_be_and_of_a_served_country(phone: str, fault: str) -> None:
    assert PhoneNumbers(["KZ"]).fault(phone) == fault


def test_countries_are_a_setting() -> None:
    assert PhoneNumbers(["KZ", "DE"]).fault("+4915123456789") == ""
    assert PhoneNumbers(["RU"]).fault("+77011234567") == "must be a phone number of RU"
    for wrong in ([], ["KZ", "XX"]):
        with pytest.raises(ValueError, match="countries"):
            PhoneNumbers(wrong)


@pytest.mark.parametrize("uri", ["/relative", "bank.example", "https//bank.example", "http://bank example/"])
def test_a_way_back_is_an_absolute_uri(uri: str) -> None:
    asked = create(return_to=auth.ReturnTo(redirect_uri=uri, code_challenge=CHALLENGE))
    assert broken(asked).keys() == {"return_to.redirect_uri"}
    validate(create(return_to=auth.ReturnTo(redirect_uri=REDIRECT_URI, code_challenge=CHALLENGE)), RULES)


@pytest.mark.postgres
async def test_over_the_wire_they_are_named_together_and_nothing_is_asked_about(edge: Edge) -> None:
    asked = create(request_id="short", subject=auth.Subject(iin="900101300018", phone="+4915123456789"))
    error = await refused(edge.finid().CreateAuthentication(asked, metadata=edge.token()))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert {item.field for item in error.violations} == {"request_id", "subject.iin", "subject.phone"}
    assert edge.room.registry.calls == []
