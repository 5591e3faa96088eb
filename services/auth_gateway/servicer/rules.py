"""What a request must be that no proto can say; named together with what protos say."""

from collections.abc import Iterator
from typing import Any

from finid.auth.v1 import auth_pb2 as pb
from google.protobuf.message import Message

from mesh.errors import FieldViolation
from services.auth_gateway.creation import PROFILES
from services.auth_gateway.phones import PhoneNumbers

_REQUIRED_RETURN = ("redirect_uri", "code_challenge")


class Rules:
    """Finds every broken rule of a request to the public API, by its fields' paths."""

    def __init__(self, phones: PhoneNumbers) -> None:
        self._phones = phones

    def __call__(self, request: Message) -> list[FieldViolation]:
        """Return what is wrong with a request."""
        if isinstance(request, pb.AuthenticateRequest):
            if request.WhichOneof("step") != "create":
                return []
            return [FieldViolation(f"create.{item.field}", item.description) for item in self._of(request.create)]
        return list(self._of(request))

    def _of(self, request: Any) -> Iterator[FieldViolation]:
        fields = request.DESCRIPTOR.fields_by_name
        if "subject" in fields and (fault := self._phones.fault(request.subject.phone)):
            yield FieldViolation("subject.phone", fault)
        # Requests without a channel are for the hosted page.
        if "return_to" in fields and getattr(request, "channel", pb.CHANNEL_HOSTED) == pb.CHANNEL_HOSTED:
            for name in _REQUIRED_RETURN:
                if not getattr(request.return_to, name):
                    yield FieldViolation(f"return_to.{name}", "is required for the hosted channel")
        if "profile" in fields and request.profile not in PROFILES:
            yield FieldViolation("profile", f"must be one of {', '.join(sorted(PROFILES))}")
