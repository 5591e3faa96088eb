"""What a peer's answer says to the hub."""

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from mesh import status
from mesh.errors import Code, FieldViolation, FinIdError
from mesh.status import PeerError

LATER = {"CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_only_what_may_go_otherwise_later_may_be_retried(code: grpc.StatusCode) -> None:
    error = PeerError("signer", AioRpcError(code, Metadata(), Metadata()))
    assert error.may_be_retried is (code.name in LATER)


def test_everything_a_typed_error_says_arrives() -> None:
    sent = FinIdError(
        "Too many.",
        metadata={"limit": "5"},
        violations=[FieldViolation("documents[0].title", "must be short")],
        retry_after_s=1.5,
    )
    sent.code, sent.reason = Code.RESOURCE_EXHAUSTED, "QUOTA_USED_UP"
    trailing = Metadata((status.DETAILS_KEY, status.to_status(sent).SerializeToString()))
    error = PeerError("otp", AioRpcError(status.code_of(sent), Metadata(), trailing, sent.message))
    assert (error.peer, error.code, error.reason) == ("otp", "RESOURCE_EXHAUSTED", "QUOTA_USED_UP")
    assert (error.message, error.metadata, error.retry_after_s) == ("Too many.", {"limit": "5"}, 1.5)
    assert error.violations == sent.violations
    assert "Too many." not in str(error)


@pytest.mark.parametrize("details", [b"", b"\xff\xff nonsense", "text"])
def test_details_that_are_none_are_left_out(details: bytes | str) -> None:
    trailing = Metadata((status.DETAILS_KEY if isinstance(details, bytes) else "x", details))
    error = PeerError("otp", AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), trailing, "iin 900101300017"))
    assert (error.code, error.reason, error.message, error.metadata) == ("INTERNAL", "", "", {})
    assert "900101300017" not in str(error)
