"""What the gateway's own code signs, the client verifies: no second reading of the contract stands between them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from finid.auth.v1 import auth_pb2 as auth
from finid.pki.v1 import pki_pb2

from finid_client import Env, KeySet, ProofRefusedError, statements, verify_consents, verify_result, verify_webhook
from mesh.transaction import Channel, Purpose
from services.auth_gateway.authentication import Controller, Language, State
from services.auth_gateway.consent_records import ConsentRecord, WithdrawnBy
from services.auth_gateway.given_consents import CONSENT_TYP, receipt_claims
from services.auth_gateway.servicer.pki import PkiServicer
from services.auth_gateway.statements import KeyUse, PublishedKey, SigningKey, StatementKey, person_sha256
from services.auth_gateway.webhooks import Event, signature
from tests.bundles import NOW, World
from tests.client.test_proofs import APPLICATION, AUTHENTICATION, CLAIMS

STATEMENT = StatementKey(Ed25519PrivateKey.generate())
WEBHOOK = SigningKey(Ed25519PrivateKey.generate())
AT = datetime.fromtimestamp(NOW, UTC)


@pytest.fixture(scope="module")
def keys() -> KeySet:
    """What the gateway publishes."""
    published = PkiServicer(
        None,  # type: ignore[arg-type]  # no CA is asked for keys
        World().pins,
        lambda: [
            PublishedKey(KeyUse.STATEMENT, STATEMENT.public_key),
            PublishedKey(KeyUse.WEBHOOK, WEBHOOK.public_key),
        ],
        lambda: AT,
    )
    return KeySet.parse(asyncio.run(published.GetReceiptKeys(pki_pb2.GetReceiptKeysRequest(), None)).data)


def test_a_result(keys: KeySet) -> None:
    jws = STATEMENT.sign("finid-result+jwt", CLAIMS)
    result = verify_result(jws, keys, env=Env.SANDBOX, application=APPLICATION)
    assert result.authentication == AUTHENTICATION
    with pytest.raises(ProofRefusedError):
        verify_result(STATEMENT.sign("finid-consent+jwt", CLAIMS), keys, env=Env.SANDBOX, application=APPLICATION)


def test_a_persons_digest() -> None:
    data = {"iin": "930514400420", "family_name": "Серікова", "birth_date": "1993-05-14"}
    empty = {"patronymic": "", "document_kind": ""}
    assert statements.person_sha256(auth.Person(**data)) == person_sha256(data | empty)
    assert statements.person_sha256(auth.Person()) == person_sha256(empty) == ""


def test_a_consent_receipt(keys: KeySet) -> None:
    given = ConsentRecord(
        name=f"consents/{'b' * 26}-personal-data",
        authentication=AUTHENTICATION,
        txn=b"\xab" * 32,
        subject="pseudonym",
        iin_commitment="x",
        application=APPLICATION,
        application_title="Демо Банк",
        purpose=Purpose.IDENTIFY,
        scopes=("name",),
        document="personal-data",
        version="1",
        language=Language.KK,
        text="Келісемін.",
        text_sha256=b"\xcd" * 32,
        controller=Controller.APPLICATION,
        controller_title="Демо Банк",
        channel=Channel.HOSTED,
        shown_at=AT,
        given_at=AT,
        withdrawn_at=AT + timedelta(hours=1),
        withdrawn_by=WithdrawnBy.PERSON,
    )
    jws = STATEMENT.sign(CONSENT_TYP, receipt_claims([given], Env.SANDBOX))
    receipt = verify_consents(jws, keys, env=Env.SANDBOX, application=APPLICATION, authentication=AUTHENTICATION)
    (consent,) = receipt.consents
    assert (receipt.txn, receipt.purpose, receipt.channel) == (given.txn, "IDENTIFY", "HOSTED")
    assert (consent.document, consent.text_sha256, consent.controller) == ("personal-data", b"\xcd" * 32, APPLICATION)
    assert (consent.is_live, consent.withdrawn_at, consent.withdrawn_by) == (False, given.withdrawn_at, "PERSON")


def test_a_webhook(keys: KeySet) -> None:
    event = Event(
        authentication=AUTHENTICATION,
        state=State.FINISHED,
        application=APPLICATION,
        operation="",
        changed_at=AT,
        attempt=1,
        tries=1,
        tried_from=AT,
    )
    body = event.body()
    headers = {
        "webhook-id": event.id,
        "webhook-timestamp": str(NOW),
        "webhook-signature": signature(WEBHOOK, event.id, NOW, body),
    }
    received = verify_webhook(headers, body, keys, now=AT)
    assert (received.id, received.state, received.happened_at) == (event.id, "FINISHED", AT)
    assert json.loads(body)["type"] == received.type
