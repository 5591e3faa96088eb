"""docs/webhooks.md: its code verifies what the gateway sends, and its tables say what the code says."""

import datetime
import json
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mesh import base64url
from services.auth_gateway.authentication import TRANSITIONS, State
from services.auth_gateway.statements import SigningKey
from services.auth_gateway.webhooks import Event, Problem, signature
from tests.bundles import digest_of
from tests.docs.page import python_of, tables_of, words

KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(digest_of("webhook key")))
SENT_AT = 1_795_690_800
CHANGED_AT = datetime.datetime(2026, 11, 26, 11, 0, 0, 123456, tzinfo=datetime.UTC)
EVENT = Event(
    "authentications/" + "a" * 26, State.FINISHED, "applications/" + "b" * 26, "", CHANGED_AT, 1, 1, CHANGED_AT
)
JWKS = {
    "keys": [
        {"finid_use": "statement", "x": base64url.encode(digest_of("another"))},
        {"finid_use": "webhook", "x": base64url.encode(KEY.public_key)},
    ]
}


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    """The page's own code."""
    return python_of("webhooks.md")


def headers(**changed: str) -> dict[str, str]:
    sent = {
        "webhook-id": EVENT.id,
        "webhook-timestamp": str(SENT_AT),
        "webhook-signature": signature(KEY, EVENT.id, SENT_AT, EVENT.body()),
    }
    return sent | {name.replace("_", "-"): value for name, value in changed.items()}


def test_the_pages_code_takes_what_is_sent(code: dict[str, Any]) -> None:
    said = code["verified"](headers(), EVENT.body(), code["webhook_keys"](JWKS), SENT_AT + 299)
    assert said == {
        "type": "authentication.state_changed",
        "timestamp": "2026-11-26T11:00:00.123456Z",
        "data": {"authentication": EVENT.authentication, "state": "FINISHED", "operation": ""},
    }


def test_it_takes_a_signature_among_others(code: dict[str, Any]) -> None:
    other = SigningKey(Ed25519PrivateKey.from_private_bytes(digest_of("next key")))
    both = f"{signature(other, EVENT.id, SENT_AT, EVENT.body())} v1,c2VjcmV0 {headers()['webhook-signature']}"
    assert code["verified"](headers(webhook_signature=both), EVENT.body(), code["webhook_keys"](JWKS), SENT_AT)


@pytest.mark.parametrize(
    ("changed", "body", "now"),
    [
        ({}, EVENT.body() + b" ", SENT_AT),
        ({}, EVENT.body(), SENT_AT + 301),
        ({}, EVENT.body(), SENT_AT - 301),
        ({"webhook_id": "another"}, EVENT.body(), SENT_AT),
        ({"webhook_timestamp": str(SENT_AT + 1)}, EVENT.body(), SENT_AT),
        ({"webhook_signature": headers()["webhook-signature"].replace("v1a", "v1")}, EVENT.body(), SENT_AT),
        ({"webhook_signature": "v1a," + "A" * 86 + "=="}, EVENT.body(), SENT_AT),
    ],
)
def test_it_refuses_anything_else(code: dict[str, Any], changed: dict[str, str], body: bytes, now: int) -> None:
    with pytest.raises(ValueError, match=r"old|signed"):
        code["verified"](headers(**changed), body, code["webhook_keys"](JWKS), now)


def test_the_states_and_problems_of_the_page_are_those_of_the_code() -> None:
    (states,) = [row[1] for row in tables_of("webhooks.md")["The message"] if words(row)[0] == "data.state"]
    told = {state.value for reached in TRANSITIONS.values() for state in reached}
    assert set(re.findall(r"`([A-Z_]+)`", states)) == told
    problems = [words(row)[0] for row in tables_of("webhooks.md")["What became of them"]]
    assert problems == [problem.value for problem in Problem]


def test_the_body_is_one_line_of_json() -> None:
    assert json.loads(EVENT.body())
    assert b" " not in EVENT.body()
    assert b"\n" not in EVENT.body()
