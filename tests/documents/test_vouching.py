"""Vouching: only for a transaction about exactly what was prepared, of this environment, now."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mesh import receipts
from mesh.errors import FinIdError
from mesh.facts import Factor, Preparation
from mesh.transaction import Binding, Env, Purpose, Transaction, documents_sha256, txn_of
from services.documents.vouching import Vouching
from tests.bundles import NOW, POLICY, World, digest_of, document, transaction_of
from tests.documents.authority import Authority
from tests.documents.room import Clock, MemoryRecords, preparation_of

WORLD = World()
AT = datetime.fromtimestamp(NOW, UTC)


@pytest.fixture
def asked(authority: Authority) -> Transaction:
    certificate_sha256 = hashlib.sha256(authority.signer.der).digest()
    cades = document("Договор", signing_time=NOW - 121, certificate_sha256=certificate_sha256)
    pades = replace(cades, title="Annex", digest_sha256=digest_of("range"), binding=Binding.DIGEST_ONLY)
    return replace(transaction_of(Purpose.SIGN), certificate_sha256=certificate_sha256, documents=(cades, pades))


class Asked:
    """documents with one preparation, of what an honest gateway asks."""

    def __init__(self, asked: Transaction, authority: Authority) -> None:
        self.records = MemoryRecords()
        self.preparation = preparation_of(asked, authority.signer.der)
        self.records.preparations[self.preparation.id] = self.preparation
        signer = WORLD.signer_of(Factor.PREPARATION)
        self.vouching = Vouching(self.records, lambda: signer, env=Env.SANDBOX, now=Clock(AT))

    async def vouch(self, transaction: Transaction, preparation: str = "") -> str:
        return await self.vouching.vouch(preparation or self.preparation.id, transaction.encode())

    async def refusal_of(self, transaction: Transaction, preparation: str = "") -> str:
        with pytest.raises(FinIdError) as refused:
            await self.vouch(transaction, preparation)
        return str(refused.value.reason)


@pytest.fixture
def documents(asked: Transaction, authority: Authority) -> Asked:
    return Asked(asked, authority)


async def test_what_was_prepared_is_vouched_for(documents: Asked, asked: Transaction) -> None:
    token = await documents.vouch(asked)
    read = receipts.verify(token, Preparation, WORLD.pins(), txn=txn_of(asked.encode()), now=NOW)
    assert read.facts == Preparation(documents.preparation.id, documents_sha256(asked.documents))
    assert (read.policy, read.issued_at) == (POLICY, NOW)


CHANGES: dict[str, dict[str, Any]] = {
    "another digest": {"digest_sha256": digest_of("another contract")},
    "another content": {"content_sha256": digest_of("another contract")},
    "another title": {"title": "Consent"},
    "another binding": {"binding": Binding.DIGEST_ONLY},
}


@pytest.mark.parametrize("change", list(CHANGES.values()), ids=list(CHANGES))
async def test_a_changed_document_is_not_vouched_for(
    documents: Asked, asked: Transaction, change: dict[str, Any]
) -> None:
    changed = (replace(asked.documents[0], **change), *asked.documents[1:])
    assert await documents.refusal_of(replace(asked, documents=changed)) == "TRANSACTION_OF_OTHER_DOCUMENTS"


async def test_documents_more_fewer_or_in_another_order_are_not_vouched_for(
    documents: Asked, asked: Transaction
) -> None:
    one, other = asked.documents
    for changed in ((one,), (other, one), (one, other, other)):
        assert await documents.refusal_of(replace(asked, documents=changed)) == "TRANSACTION_OF_OTHER_DOCUMENTS"


@pytest.mark.parametrize(
    "change",
    [
        {"certificate_sha256": digest_of("another certificate")},
        {"signing_time": NOW - 120},
        {"application": "applications/" + "b" * 26},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_the_digests_follow_from_must_be_the_same(
    documents: Asked, asked: Transaction, change: dict[str, Any]
) -> None:
    assert await documents.refusal_of(replace(asked, **change)) == "TRANSACTION_OF_OTHER_DOCUMENTS"


@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if purpose is not Purpose.SIGN])
async def test_another_purpose_has_no_documents_to_vouch_for(documents: Asked, purpose: Purpose) -> None:
    assert await documents.refusal_of(transaction_of(purpose)) == "TRANSACTION_OF_OTHER_DOCUMENTS"


async def test_nothing_is_vouched_for_that_was_not_prepared(documents: Asked, asked: Transaction) -> None:
    assert await documents.refusal_of(asked, "a" * 26) == "PREPARATION_NOT_FOUND"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"env": Env.PRODUCTION}, "ENV_MISMATCH"),
        ({"expires_at": NOW}, "TRANSACTION_EXPIRED"),
        ({"created_at": NOW + 6, "expires_at": NOW + 600}, "TRANSACTION_NOT_YET_VALID"),
    ],
    ids=["of production", "expired", "of the future"],
)
async def test_a_transaction_that_no_spoke_works_for_is_not_vouched_for(
    documents: Asked, asked: Transaction, change: dict[str, Any], reason: str
) -> None:
    assert await documents.refusal_of(replace(asked, **change)) == reason
