"""The trusted core in an attacker's hands: what the signer, the CA and an operator with the PIN gain, and what not."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.errors import FinIdError
from mesh.facts import Factor
from mesh.hsm import KekName, KeyAlgorithm, TokenPool, WrappedKey, WrappedKeyRefusedError
from mesh.transaction import Purpose
from services.signer.subject_keys import KEK_LABEL, TokenSubjectKeys, all_verify
from tests.bundles import NOW, POLICY, digest_of, facts_of
from tests.ca.requests import csr_of, spki_sha256
from tests.security.scene import VICTIM, Plan, Scene
from tests.signer.room import Room
from tests.softhsm import SoftHsm, TokenPlace

KEK = KekName(KEK_LABEL, 1)


async def test_a_signer_gets_no_certificate_without_the_person() -> None:
    """It may attest any key for anybody. The CA asks for the person's factors all the same."""
    scene = await Scene.create(enrolled=False)
    asked = scene.asked(Purpose.ISSUE)
    bundle = scene.bundle(asked, VICTIM, await scene.confirmed(asked, Plan()))
    own_key = ec.generate_private_key(ec.SECP256R1())
    stated = facts_of(Factor.KEY_ATTESTATION, asked, public_key_sha256=spki_sha256(own_key))
    attested = scene.world.signer_of(Factor.KEY_ATTESTATION).sign(stated, txn=bundle.txn, policy=POLICY, now=NOW)
    release = scene.world.release(bundle.txn)
    with pytest.raises(FinIdError) as refused:
        await scene.certify(bundle.also(attested), csr_of(own_key), release)
    assert refused.value.reason == "SIGNATURE_INVALID"
    assert scene.authority.issuing_key.calls == 0


async def test_a_signer_is_given_nobodys_data() -> None:
    scene = await Scene.create()
    asked = scene.asked(Purpose.IDENTIFY)
    bundle = scene.bundle(asked, VICTIM, await scene.confirmed(asked, Plan()))
    before = scene.source.asked
    with pytest.raises(FinIdError):
        await scene.release(bundle)
    assert scene.source.asked == before


async def test_a_ca_names_anybody_and_still_does_not_sign_with_a_subjects_key() -> None:
    """A gain: certificates in any name, for keys of its own. The victim's key keeps the certificate that it has."""
    room = Room()
    credential = await room.enrol()
    in_her_name = room.ca.certify(csr_of(ec.generate_private_key(ec.SECP256R1())))
    assert x509.load_der_x509_certificate(in_her_name).issuer == room.ca.certificate.subject
    for another in (in_her_name, room.ca.certify(credential.csr_der)):
        with pytest.raises(FinIdError) as refused:
            await room.enrolment.activate(credential.name, another)
        assert refused.value.reason == "CERTIFICATE_REFUSED"
    assert "sign" not in room.fake_keys.calls


@pytest.fixture
def token_of_the_signer(softhsm: SoftHsm) -> TokenPlace:
    place = softhsm.new_token()
    place.open(writable=True).create_kek(KEK)
    return place


@pytest.mark.hsm
async def test_whoever_has_pin_token_and_blob_signs_anything(token_of_the_signer: TokenPlace) -> None:
    """A gain of the operator: the precondition stands in the signer, not in the token."""
    pool = TokenPool(token_of_the_signer.open())
    key = await TokenSubjectKeys(pool, KEK).generate(KeyAlgorithm.EC_P256)
    pool.close()

    operator = token_of_the_signer.open()
    anything = [digest_of("anything")]
    signatures = operator.sign_with_wrapped(WrappedKey.from_bytes(key.wrapped_key), anything)
    assert all_verify(key.public_key_der, anything, signatures)


@pytest.mark.hsm
async def test_without_the_token_pin_and_blob_are_worth_nothing(
    token_of_the_signer: TokenPlace, softhsm: SoftHsm
) -> None:
    """A stolen database, and even another token whose key has the same name, open no blob."""
    pool = TokenPool(token_of_the_signer.open())
    key = await TokenSubjectKeys(pool, KEK).generate(KeyAlgorithm.EC_P256)
    pool.close()

    elsewhere = softhsm.new_token().open(writable=True)
    elsewhere.create_kek(KEK)
    with pytest.raises(WrappedKeyRefusedError):
        elsewhere.sign_with_wrapped(WrappedKey.from_bytes(key.wrapped_key), [digest_of("anything")])
