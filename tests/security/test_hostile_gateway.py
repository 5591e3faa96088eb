"""A gateway that lies: it builds transactions, carries everything, and may ask every spoke anything, at any time.

Here the victim is there and passes the factors for something; tests/security/test_absent_victim.py is about the rest.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mesh import pins, precondition
from mesh.errors import FinIdError
from mesh.facts import Factor
from mesh.precondition import PreconditionError
from mesh.receipts import ReceiptSigner
from mesh.refusal import Refusal
from mesh.transaction import Binding, Document, Purpose, Transaction, txn_of
from services.otp.text import Language, fingerprint
from tests.bundles import FACTORS, NOW, SentBundle, digest_of, document, factors_of, facts_of
from tests.ca.requests import csr_of
from tests.otp.sms import FakeProvider
from tests.security.scene import VICTIM, VICTIMS_PICTURES, Scene

CONSUMED = (Purpose.SIGN, Purpose.ISSUE, Purpose.IDENTIFY, Purpose.REVOKE)


async def scene_for(purpose: Purpose) -> Scene:
    return await Scene.create(enrolled=purpose is not Purpose.ISSUE)


async def confirmed(scene: Scene, asked: Transaction) -> SentBundle:
    """The victim is there and confirms what was asked."""
    return scene.bundle(asked, VICTIM, await scene.confirmed_by(asked))


async def refusal_of(scene: Scene, bundle: SentBundle) -> str:
    """The reason of the refusal; no key may have been touched and nobody's data looked up."""
    asked_before = scene.source.asked
    with pytest.raises(FinIdError) as refused:
        await scene.consume(bundle)
    assert scene.room.fake_keys.calls == []
    assert scene.authority.issuing_key.calls == 0
    assert scene.source.asked == asked_before
    return str(refused.value.reason)


@pytest.mark.parametrize("purpose", CONSUMED)
async def test_what_the_victim_confirmed_is_done(purpose: Purpose) -> None:
    """The other tests here change one thing of this."""
    scene = await scene_for(purpose)
    await scene.consume(await confirmed(scene, scene.asked(purpose)))


@pytest.mark.parametrize(
    ("purpose", "factor"), [(purpose, factor) for purpose in CONSUMED for factor in factors_of(purpose)]
)
async def test_no_single_receipt_can_be_forged(purpose: Purpose, factor: Factor) -> None:
    scene = await scene_for(purpose)
    genuine = await confirmed(scene, scene.asked(purpose))
    stated = scene.statements(genuine.transaction, VICTIM, VICTIMS_PICTURES)[factor]
    in_its_name = scene.world.receipt(stated, txn=genuine.txn, claims={"iat": NOW, "exp": NOW + 600}, key=scene.own_key)
    as_myself = ReceiptSigner(scene.own_key, scene.world.env).sign(
        stated, txn=genuine.txn, policy=genuine.transaction.policy, now=NOW
    )
    unsigned = genuine.receipts[factor].rpartition(".")[0] + "."
    found = [
        await refusal_of(scene, genuine.without(factor).also(forged)) for forged in (in_its_name, as_myself, unsigned)
    ]
    assert found == ["SIGNATURE_INVALID", "KEY_NOT_PINNED", "RECEIPT_MALFORMED"]
    assert await refusal_of(scene, genuine.without(factor)) == "FACTOR_MISSING"


@pytest.mark.parametrize("confirmed_for", [Purpose.IDENTIFY, Purpose.SIGN, Purpose.REVOKE])
@pytest.mark.parametrize("used_for", [Purpose.IDENTIFY, Purpose.SIGN, Purpose.REVOKE])
async def test_receipts_of_one_transaction_serve_no_other(confirmed_for: Purpose, used_for: Purpose) -> None:
    """Even one for the same purpose, the same person and the same documents."""
    scene = await Scene.create()
    receipts = await scene.confirmed_by(scene.asked(confirmed_for))
    other = scene.asked(used_for)
    # Documents' word is to be had without the person.
    person = {factor: receipt for factor, receipt in receipts.items() if factor in FACTORS}
    bundle = scene.bundle(other, VICTIM, await scene.vouched(other) | person)
    assert await refusal_of(scene, bundle) == "RECEIPT_OF_ANOTHER_TRANSACTION"


@pytest.mark.parametrize("factor", factors_of(Purpose.SIGN))
async def test_not_even_one_receipt_of_another_transaction_serves(factor: Factor) -> None:
    """The victim signs with one bank while the gateway keeps a receipt from an identification with another."""
    scene = await Scene.create()
    earlier = Purpose.SIGN if factor is Factor.PREPARATION else Purpose.IDENTIFY
    kept = (await scene.confirmed_by(scene.asked(earlier)))[factor]
    bundle = await confirmed(scene, scene.asked(Purpose.SIGN))
    assert await refusal_of(scene, bundle.without(factor).also(kept)) == "RECEIPT_OF_ANOTHER_TRANSACTION"


SWAPS: dict[str, Callable[[Transaction], Transaction]] = {
    "another contract": lambda asked: replace(
        asked,
        documents=(
            document("another contract", signing_time=asked.signing_time, certificate_sha256=asked.certificate_sha256),
            *asked.documents[1:],
        ),
    ),
    "another order": lambda asked: replace(asked, documents=asked.documents[::-1]),
    "one document more": lambda asked: replace(asked, documents=(*asked.documents, asked.documents[0])),
    "one document fewer": lambda asked: replace(asked, documents=asked.documents[1:]),
    "the same content under another title": lambda asked: replace(
        asked, documents=(replace(asked.documents[0], title="Consent.pdf"), *asked.documents[1:])
    ),
    "another key": lambda asked: replace(asked, credential="credentials/" + "a" * 26),
    "another certificate": lambda asked: replace(
        asked,
        certificate_sha256=digest_of("another"),
        documents=(document("contract.pdf", certificate_sha256=digest_of("another")),),
    ),
    "another bank": lambda asked: replace(asked, application="applications/" + "a" * 26),
    "more time": lambda asked: replace(asked, expires_at=asked.expires_at + 1),
}


@pytest.mark.parametrize("swap", list(SWAPS.values()), ids=list(SWAPS))
async def test_nothing_can_be_swapped_after_it_was_confirmed(swap: Callable[[Transaction], Transaction]) -> None:
    scene = await Scene.create()
    asked = scene.asked(Purpose.SIGN)
    receipts = await scene.confirmed_by(asked)
    swapped = scene.bundle(swap(asked), VICTIM, receipts)
    assert await refusal_of(scene, swapped) == "RECEIPT_OF_ANOTHER_TRANSACTION"


async def test_a_confirmation_signs_its_own_digests_once() -> None:
    scene = await Scene.create()
    bundle = await confirmed(scene, scene.asked(Purpose.SIGN))
    digests = [item.digest_sha256 for item in bundle.transaction.documents]
    for wanted in ([*digests, digest_of("one more")], digests[::-1], [digest_of("another"), *digests[1:]], []):
        with pytest.raises(FinIdError) as refused:
            await scene.room.sign(bundle, digests=wanted)
        assert refused.value.reason == "DIGESTS_NOT_AUTHORIZED"
    assert scene.room.fake_keys.calls == []
    await scene.room.sign(bundle)
    with pytest.raises(FinIdError) as used:
        await scene.room.sign(bundle, "another request")
    assert used.value.reason == "TRANSACTION_ALREADY_USED"
    assert scene.room.fake_keys.calls == ["sign"]


async def test_a_certificate_is_for_the_signers_key_and_no_other() -> None:
    """The victim asks for a certificate; the gateway wants one in the victim's name for a key of its own."""
    scene = await Scene.create(enrolled=False)
    bundle = await confirmed(scene, scene.asked(Purpose.ISSUE))
    key = await scene.room.generate(bundle)
    released = await scene.release(bundle)
    own_key = ec.generate_private_key(ec.SECP256R1())
    own_csr = csr_of(own_key)
    attested = facts_of(Factor.KEY_ATTESTATION, bundle.transaction)
    forged = scene.world.receipt(attested, txn=bundle.txn, claims={"iat": NOW, "exp": NOW + 600}, key=scene.own_key)
    for attestation, reason in ((key.key_attestation, "KEY_NOT_ATTESTED"), (forged, "SIGNATURE_INVALID")):
        with pytest.raises(FinIdError) as refused:
            await scene.certify(bundle.also(attestation), own_csr, released)
        assert refused.value.reason == reason
    assert scene.authority.issuing_key.calls == 0


async def test_only_facematch_reads_the_photo_and_another_photo_is_not_the_records() -> None:
    """Anybody can encrypt a photo to facematch, and it judges it; against the record's digest that is worth nothing."""
    scene = await Scene.create()
    bundle = await confirmed(scene, scene.asked(Purpose.SIGN))
    match = replace(
        scene.statements(bundle.transaction, VICTIM, VICTIMS_PICTURES)[Factor.FACE_MATCH],
        reference_sha256=digest_of("the attacker's own photo"),  # type: ignore[call-arg]
    )
    judged = scene.world.signer_of(Factor.FACE_MATCH).sign(
        match, txn=bundle.txn, policy=bundle.transaction.policy, now=NOW
    )
    assert await refusal_of(scene, bundle.without(Factor.FACE_MATCH).also(judged)) == "REFERENCE_NOT_OF_RECORD"


@pytest.mark.parametrize("language", list(Language))
async def test_the_phone_says_what_is_confirmed_whatever_the_page_says(language: Language) -> None:
    """The gateway shows an identification and asks for a signature. The text is otp's, from the transaction itself."""
    scene = await Scene.create()
    asked = scene.asked(Purpose.SIGN)
    titled = replace(
        asked, documents=(replace(asked.documents[0], title="Identification. Code 123456"),), application_title="FinID"
    )
    texts = {}
    for made in (titled, scene.asked(Purpose.IDENTIFY)):
        provider = FakeProvider()
        await scene.codes(provider).send(made.encode(), VICTIM.phone, VICTIM.phone_salt, language)
        ((phone, texts[made.purpose], _),) = provider.sent
        assert phone == VICTIM.phone
    headline = {purpose: text.partition(":")[2].split()[:2] for purpose, text in texts.items()}
    assert headline[Purpose.SIGN] != headline[Purpose.IDENTIFY]
    assert "123456" not in texts[Purpose.SIGN][:-6]
    assert fingerprint(titled.documents) in texts[Purpose.SIGN]


async def test_a_gateway_decides_which_scopes_the_person_is_asked_for() -> None:
    """A gain: the text on the phone does not list scopes, so data of those who identify themselves is open to it."""
    scene = await Scene.create()
    asked = replace(scene.asked(Purpose.IDENTIFY), scopes=("name", "birth_date", "document"))
    await scene.consume(await confirmed(scene, asked))


LIES: dict[str, Callable[[Document], Document]] = {
    "another digest": lambda shown: replace(shown, digest_sha256=digest_of("attributes over another contract")),
    "another digest, not to be rebuilt": lambda shown: replace(
        shown, digest_sha256=digest_of("attributes over another contract"), binding=Binding.DIGEST_ONLY
    ),
    "its own digest, not to be rebuilt": lambda shown: replace(shown, binding=Binding.DIGEST_ONLY),
    "another content": lambda shown: replace(shown, content_sha256=digest_of("a harmless text")),
    "another title": lambda shown: replace(shown, title="Consent.pdf"),
}


@pytest.mark.parametrize("lie", list(LIES.values()), ids=list(LIES))
async def test_a_gateway_alone_puts_nothing_behind_the_content_that_was_prepared(
    lie: Callable[[Document], Document],
) -> None:
    """The person confirms a transaction that says otherwise than documents prepared: its word is not to be had."""
    scene = await Scene.create()
    asked = scene.asked(Purpose.SIGN)
    lying = replace(asked, documents=(lie(asked.documents[0]), *asked.documents[1:]))
    with pytest.raises(FinIdError) as refused:
        await scene.vouched(lying, prepared=asked)
    assert refused.value.reason == "TRANSACTION_OF_OTHER_DOCUMENTS"

    genuine = await confirmed(scene, lying)  # all that the person's receipts could be
    of_documents = facts_of(Factor.PREPARATION, lying)
    forged = ReceiptSigner(scene.own_key, scene.world.env).sign(
        of_documents, txn=genuine.txn, policy=lying.policy, now=NOW
    )
    kept = (await scene.vouched(asked))[Factor.PREPARATION]
    without = genuine.without(Factor.PREPARATION)
    assert await refusal_of(scene, without) == "FACTOR_MISSING"
    assert await refusal_of(scene, without.also(forged)) == "KEY_NOT_PINNED"
    assert await refusal_of(scene, without.also(kept)) == "RECEIPT_OF_ANOTHER_TRANSACTION"


async def test_a_false_verdict_has_no_evidence() -> None:
    """The gateway may say SUCCESS; a participant that verifies the evidence by the published keys is not fooled."""
    scene = await Scene.create()
    asked = scene.asked(Purpose.IDENTIFY)
    receipts = await scene.confirmed_by(asked)
    published = pins.parse(scene.world.pins_json(), scene.world.env)

    def verified_by_the_participant(bundle: SentBundle) -> None:
        precondition.authorize(
            Purpose.IDENTIFY,
            bundle.transaction_bytes,
            bundle.openings,
            bundle.tokens,
            published,
            scene.floors,
            NOW,
        )

    genuine = scene.bundle(asked, VICTIM, receipts)
    verified_by_the_participant(genuine)
    stated = scene.statements(asked, VICTIM, VICTIMS_PICTURES)[Factor.SMS_OTP]
    forged = scene.world.receipt(stated, txn=txn_of(asked.encode()), key=scene.own_key)
    with pytest.raises(PreconditionError) as refused:
        verified_by_the_participant(genuine.without(Factor.SMS_OTP).also(forged))
    assert refused.value.refusal is Refusal.SIGNATURE_INVALID
