"""Client secrets: 256 random bits, of which a keyed hash is kept."""

import hmac
from typing import Any

import pytest

from mesh import base64url
from services.portal.client_secret import SECRET_BYTES, SecretHash, new_secret
from tests.bundles import digest_of
from tests.portal.clients import CLIENT_ID, SECRET, SECRET_HASH


def test_secrets_have_256_bits_and_never_repeat() -> None:
    made = {new_secret() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(base64url.decode(secret)) == SECRET_BYTES == 32 for secret in made)


@pytest.mark.parametrize(
    ("key", "client_id", "secret"),
    [
        ("another key", CLIENT_ID, SECRET),
        ("client secret key", "another-bank", SECRET),
        ("client secret key", CLIENT_ID, SECRET[:-1]),
        ("client secret key", CLIENT_ID, SECRET + "s"),
        ("client secret key", f"{CLIENT_ID}\0{SECRET[:1]}", SECRET[1:]),
    ],
)
def test_what_is_kept_is_bound_to_key_client_and_secret(key: str, client_id: str, secret: str) -> None:
    kept = SECRET_HASH.of(CLIENT_ID, SECRET)
    assert SECRET_HASH.is_one_of([kept], CLIENT_ID, SECRET)
    assert not SecretHash(digest_of(key)).is_one_of([kept], client_id, secret)


def test_comparison_takes_every_secret_in_constant_time_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []
    compare = hmac.compare_digest

    def watched(left: Any, right: Any) -> bool:
        compared.append(left)
        return compare(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    right = SECRET_HASH.of(CLIENT_ID, SECRET)
    for kept in ([right, b"x" * 32], [b"x" * 32, right], [b"x" * 32, b"y" * 32]):
        compared.clear()
        SECRET_HASH.is_one_of(kept, CLIENT_ID, SECRET)
        assert compared == kept
