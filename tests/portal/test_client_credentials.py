"""The client credentials grant: who gets a token, for what, and what the others learn."""

import asyncio
from dataclasses import replace

import pytest
from joserfc import jwt

from mesh.transaction import Purpose
from services.portal.application import Service, State
from services.portal.client_credentials import (
    Credentials,
    GrantRefusedError,
    InvalidClientError,
    InvalidScopeError,
    TooManyAttemptsError,
    UnauthorizedClientError,
)
from services.portal.client_secret import SecretHash, new_secret
from tests.portal.clients import APPLICATION, CLIENT_ID, SECRET, SECRET_HASH, TOKEN_KEY, FakeClients, client_credentials

RIGHT = Credentials(CLIENT_ID, SECRET, "203.0.113.7")


async def test_the_right_secret_gives_a_token_for_all_services() -> None:
    granted = await client_credentials(FakeClients()).grant(RIGHT, "")
    assert (granted.services, granted.expires_in_s) == ((Service.FINID, Service.ESIGN), 900)
    assert jwt.decode(granted.token, TOKEN_KEY, algorithms=["ES256"]).claims["services"] == ["finid", "esign"]
    assert granted.token not in repr(granted)


async def test_a_scope_narrows_the_token() -> None:
    granted = await client_credentials(FakeClients()).grant(RIGHT, "esign")
    assert granted.services == (Service.ESIGN,)


@pytest.mark.parametrize("scope", ["admin", "finid admin", "FINID"])
async def test_a_scope_that_is_none_of_its_services_is_refused(scope: str) -> None:
    with pytest.raises(InvalidScopeError):
        await client_credentials(FakeClients()).grant(RIGHT, scope)


async def test_an_application_is_not_granted_what_it_was_not_approved_for() -> None:
    clients = FakeClients(application=replace(APPLICATION, purposes=(Purpose.IDENTIFY,)))
    assert (await client_credentials(clients).grant(RIGHT, "")).services == (Service.FINID,)
    with pytest.raises(InvalidScopeError):
        await client_credentials(clients).grant(RIGHT, "esign")


async def test_both_secrets_hold_while_one_replaces_the_other() -> None:
    new = new_secret()
    clients = FakeClients(secret_hmacs=(SECRET_HASH.of(CLIENT_ID, SECRET), SECRET_HASH.of(CLIENT_ID, new)))
    for secret in (SECRET, new):
        assert (await client_credentials(clients).grant(replace(RIGHT, secret=secret), "")).token


async def test_who_exists_cannot_be_learnt() -> None:
    told = set()
    for credentials in (replace(RIGHT, secret="wrong"), replace(RIGHT, client_id="nobody")):
        with pytest.raises(InvalidClientError) as refused:
            await client_credentials(FakeClients()).grant(credentials, "")
        told.add((type(refused.value), str(refused.value)))
    assert len(told) == 1


async def test_an_unknown_client_takes_the_same_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    is_one_of = SecretHash.is_one_of

    def watched(self: SecretHash, kept: tuple[bytes, ...], client_id: str, secret: str) -> bool:
        compared.append(len(kept))
        return is_one_of(self, kept, client_id, secret)

    monkeypatch.setattr(SecretHash, "is_one_of", watched)
    for credentials in (replace(RIGHT, secret="wrong"), replace(RIGHT, client_id="nobody")):
        with pytest.raises(InvalidClientError):
            await client_credentials(FakeClients()).grant(credentials, "")
    assert compared == [1, 1]


async def test_a_client_without_a_live_secret_gets_nothing() -> None:
    with pytest.raises(InvalidClientError):
        await client_credentials(FakeClients(secret_hmacs=())).grant(RIGHT, "")


async def test_suspension_is_told_only_to_who_has_the_secret() -> None:
    clients = FakeClients(application=replace(APPLICATION, state=State.SUSPENDED))
    with pytest.raises(UnauthorizedClientError):
        await client_credentials(clients).grant(RIGHT, "")
    with pytest.raises(InvalidClientError):
        await client_credentials(clients).grant(replace(RIGHT, secret="wrong"), "")


async def test_guesses_that_come_together_are_no_more_than_the_limit() -> None:
    grant = client_credentials(FakeClients(max_failures=3))
    results = await asyncio.gather(
        *(grant.grant(replace(RIGHT, secret=f"guess {n}"), "") for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(result, InvalidClientError) for result in results) == 3
    assert sum(isinstance(result, TooManyAttemptsError) for result in results) == 17


async def test_failures_of_unknown_clients_are_limited_alike() -> None:
    grant = client_credentials(FakeClients(max_failures=1))
    nobody = replace(RIGHT, client_id="nobody")
    with pytest.raises(InvalidClientError):
        await grant.grant(nobody, "")
    with pytest.raises(TooManyAttemptsError):
        await grant.grant(nobody, "")


async def test_failures_from_elsewhere_do_not_lock_a_client_out() -> None:
    grant = client_credentials(FakeClients(max_failures=1))
    attacker = Credentials(CLIENT_ID, "guess", "198.51.100.9")
    for refusal in (InvalidClientError, TooManyAttemptsError):
        with pytest.raises(refusal):
            await grant.grant(attacker, "")
    assert (await grant.grant(RIGHT, "")).token


async def test_success_forgives_earlier_failures() -> None:
    clients = FakeClients(max_failures=2)
    grant = client_credentials(clients)
    for _ in range(5):
        with pytest.raises(GrantRefusedError):
            await grant.grant(replace(RIGHT, secret="wrong"), "")
        await grant.grant(RIGHT, "")
    assert clients.attempts == {}


def test_repr_of_credentials_shows_no_secret() -> None:
    assert SECRET not in repr(RIGHT)
