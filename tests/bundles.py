"""Valid bundles for every purpose, with a knob for everything that a test may want to be wrong.

    world = World()                                  # receipt keys of all spokes, the pins of them, floors
    bundle = world.bundle(Purpose.SIGN)              # everything a consumer is sent
    grant = bundle.authorize()
    world.bundle(Purpose.SIGN, transaction={"expires_at": NOW - 1})
    world.bundle(Purpose.SIGN, facts={Factor.SMS_OTP: {"verified_at": NOW - 500}})
    world.bundle(Purpose.SIGN, claims={Factor.LIVENESS: {"env": "production"}})       # signed as they stand
    world.bundle(Purpose.SIGN, keys={Factor.SMS_OTP: Ed25519PrivateKey.generate()})   # signed by another key

Times are around NOW; the digests are of labels, so that a failing test names what it met.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mesh import base64url, floors, pins, precondition, signed_attributes
from mesh.facts import (
    FaceMatch,
    Factor,
    Facts,
    KeyAttestation,
    KeyDestruction,
    Liveness,
    Preparation,
    Release,
    SmsOtp,
    StateRecord,
    to_claims,
)
from mesh.floors import Floors
from mesh.names import new_id
from mesh.pins import Pins
from mesh.precondition import Grant
from mesh.receipts import ReceiptSigner
from mesh.transaction import (
    Binding,
    Channel,
    Consent,
    Document,
    Env,
    Openings,
    Purpose,
    Transaction,
    documents_sha256,
    txn_of,
)

NOW = 1_764_000_000
IIN = "900101300017"
PHONE = "+77010000001"
POLICY = "sandbox-standard"
FACTORS = (Factor.STATE_RECORD, Factor.LIVENESS, Factor.FACE_MATCH, Factor.SMS_OTP)
ISSUER_OF = {
    Factor.PREPARATION: "documents",
    Factor.STATE_RECORD: "registry",
    Factor.LIVENESS: "liveness",
    Factor.FACE_MATCH: "facematch",
    Factor.SMS_OTP: "otp",
    Factor.KEY_ATTESTATION: "signer",
    Factor.RELEASE: "registry",
    Factor.KEY_DESTRUCTION: "signer",
}
# When each factor was confirmed, in seconds before NOW.
AGE_S = {
    Factor.PREPARATION: 115,
    Factor.STATE_RECORD: 110,
    Factor.LIVENESS: 60,
    Factor.FACE_MATCH: 55,
    Factor.SMS_OTP: 10,
    Factor.KEY_ATTESTATION: 5,
    Factor.RELEASE: 4,
    Factor.KEY_DESTRUCTION: 3,
}


def digest_of(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


LIVENESS_MODEL = digest_of("liveness model")
MATCH_MODEL = digest_of("match model")
KEYFRAMES = tuple(digest_of(f"keyframe {number}") for number in range(3))
PHOTO = digest_of("reference photo")
CERTIFICATE = digest_of("certificate")


def sandbox_openings() -> Openings:
    return Openings(iin=IIN, iin_salt=digest_of("iin salt"), phone=PHONE, phone_salt=digest_of("phone salt"))


@dataclass(frozen=True)
class SentBundle:
    """What a consumer is sent, with the consumer's own pins, floors and time beside."""

    purpose: Purpose
    transaction: Transaction
    transaction_bytes: bytes
    openings: Openings
    receipts: dict[Factor, str]
    pins: Pins
    floors: Floors
    now: int = NOW
    tokens: tuple[str, ...] = ()

    @property
    def txn(self) -> bytes:
        return txn_of(self.transaction_bytes)

    def without(self, *factors: Factor) -> "SentBundle":
        """The bundle with the receipts of `factors` left out."""
        kept = {factor: token for factor, token in self.receipts.items() if factor not in factors}
        return replace(self, receipts=kept, tokens=tuple(kept.values()))

    def also(self, *tokens: str) -> "SentBundle":
        """The bundle with further receipts."""
        return replace(self, tokens=(*self.tokens, *tokens))

    def authorize(self, expected_purpose: Purpose | None = None) -> Grant:
        return precondition.authorize(
            expected_purpose or self.purpose,
            self.transaction_bytes,
            self.openings,
            self.tokens,
            self.pins,
            self.floors,
            self.now,
        )


@dataclass
class World:
    """The receipt keys of one environment, one per service, and what a ceremony makes of them."""

    env: Env = Env.SANDBOX
    keys: dict[str, Ed25519PrivateKey] = field(
        default_factory=lambda: {issuer: Ed25519PrivateKey.generate() for issuer in sorted(set(ISSUER_OF.values()))}
    )

    def signer_of(self, factor: Factor) -> ReceiptSigner:
        return ReceiptSigner(self.keys[ISSUER_OF[factor]], self.env)

    def key_pem(self, issuer: str) -> bytes:
        """The receipt key of a service as its file holds it."""
        return self.keys[issuer].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def pins_json(self, *, not_before: int = NOW - 86_400, not_after: int = NOW + 86_400) -> bytes:
        """The pins file of the ceremony."""
        listed = []
        for factor, issuer in ISSUER_OF.items():
            public_key = self.keys[issuer].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            listed.append(
                {
                    "kid": pins.key_id(public_key),
                    "factor": factor.value,
                    "issuer": issuer,
                    "env": self.env.value,
                    "public_key": base64url.encode(public_key),
                    "not_before": not_before,
                    "not_after": not_after,
                }
            )
        return json.dumps({"pins": listed}).encode()

    def pins(self) -> Pins:
        return pins.parse(self.pins_json(), self.env)

    def floors_json(self, *, attested: bool = False) -> bytes:
        """A floors file that serves every purpose; `attested` adds KEY_ATTESTATION to ISSUE and REISSUE (the CA's)."""
        return json.dumps({purpose.value: floor_of(purpose, attested=attested) for purpose in Purpose}).encode()

    def floors(self, *, attested: bool = False) -> Floors:
        return floors.parse(self.floors_json(attested=attested))

    def write_files(self, folder: Path, *, attested: bool = False) -> None:
        """Write pins.json, floors.json and <issuer>.key into `folder`."""
        (folder / "pins.json").write_bytes(self.pins_json())
        (folder / "floors.json").write_bytes(self.floors_json(attested=attested))
        for issuer in self.keys:
            path = folder / f"{issuer}.key"
            path.write_bytes(self.key_pem(issuer))
            path.chmod(0o400)

    def bundle(
        self,
        purpose: Purpose,
        *,
        transaction: Mapping[str, Any] | None = None,
        facts: Mapping[Factor, Mapping[str, Any]] | None = None,
        claims: Mapping[Factor, Mapping[str, Any]] | None = None,
        headers: Mapping[Factor, Mapping[str, Any]] | None = None,
        keys: Mapping[Factor, Ed25519PrivateKey] | None = None,
        openings: Openings | None = None,
        attested: bool = False,
        now: int = NOW,
    ) -> SentBundle:
        """Return a bundle that every consumer accepts at `now`, but for the fields given.

        `transaction` and `facts` replace fields of the dataclasses, `claims` and `headers` replace or add members of
        the JSON that is signed, `keys` signs with another key. `attested` adds the KEY_ATTESTATION that the CA needs
        for ISSUE and REISSUE.
        """
        shown = openings or sandbox_openings()
        made = replace(transaction_of(purpose, now=now, openings=shown), **dict(transaction or {}))
        factors = factors_of(purpose, attested=attested)
        tokens = {
            factor: self.receipt(
                facts_of(factor, made, now=now, **dict((facts or {}).get(factor, {}))),
                txn=txn_of(made.encode()),
                now=now,
                claims=(claims or {}).get(factor),
                header=(headers or {}).get(factor),
                key=(keys or {}).get(factor),
            )
            for factor in factors
        }
        return SentBundle(
            purpose=purpose,
            transaction=made,
            transaction_bytes=made.encode(),
            openings=shown,
            receipts=tokens,
            pins=self.pins(),
            floors=self.floors(attested=attested),
            now=now,
            tokens=tuple(tokens.values()),
        )

    def receipt(
        self,
        stated: Facts,
        *,
        txn: bytes,
        now: int = NOW,
        policy: str = POLICY,
        claims: Mapping[str, Any] | None = None,
        header: Mapping[str, Any] | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> str:
        """Sign `stated` as its spoke would, with `claims` and `header` replaced or added; a None leaves the member out.

        Unlike `ReceiptSigner.sign` it signs nonsense too.
        """
        signer = self.signer_of(stated.factor)
        issued_at = now - AGE_S[stated.factor]
        members = {
            **to_claims(stated),
            "iss": stated.issuer,
            "aud": stated.audience,
            "env": self.env.value,
            "factor": stated.factor.value,
            "txn": base64url.encode(txn),
            "jti": new_id(),
            "iat": issued_at,
            "exp": issued_at + 600,
            "result": "PASS",
            "policy": policy,
            **(claims or {}),
        }
        head = {
            "alg": "EdDSA",
            "kid": pins.key_id(signer.public_key),
            "typ": stated.factor.typ,
            **(header or {}),
        }
        return sign_jws(head, members, key or signer.key)

    def release(self, txn: bytes, *, now: int = NOW, **changed: Any) -> str:
        """The registry's RELEASE receipt for the sandbox person."""
        stated = Release(
            iin=IIN,
            family_name="Серікова",
            given_name="Айгерім",
            patronymic="Нұрланқызы",
            family_name_latin="SERIKOVA",
            given_name_latin="AIGERIM",
            birth_date="1990-01-01",
            email="",
        )
        return self.receipt(replace(stated, **changed), txn=txn, now=now)


def sign_jws(header: Mapping[str, Any], claims: Mapping[str, Any], key: Ed25519PrivateKey) -> str:
    """Return a compact JWS of whatever is given, without its members that are None."""
    parts = (rfc8785.dumps({name: v for name, v in part.items() if v is not None}) for part in (header, claims))
    signed = ".".join(map(base64url.encode, parts))
    return f"{signed}.{base64url.encode(key.sign(signed.encode()))}"


def factors_of(purpose: Purpose, *, attested: bool = False) -> tuple[Factor, ...]:
    """The factors a consumer requires; the CA's are `attested`: for ISSUE and REISSUE they include the new key."""
    makes_key = purpose in {Purpose.ISSUE, Purpose.REISSUE}
    if purpose is Purpose.SIGN:
        return (Factor.PREPARATION, *FACTORS)
    if purpose is Purpose.SUSPEND:
        return tuple(factor for factor in FACTORS if factor is not Factor.SMS_OTP)
    return (*FACTORS, Factor.KEY_ATTESTATION) if attested and makes_key else FACTORS


def floor_of(purpose: Purpose, *, attested: bool = False) -> dict[str, Any]:
    """One purpose's floor as its JSON."""
    channels = tuple(Channel) if purpose is Purpose.IDENTIFY else (Channel.HOSTED,)
    return {
        "factors": [factor.value for factor in factors_of(purpose, attested=attested)],
        "channels": [channel.value for channel in channels],
        "policies": [POLICY],
        "min_passive_ppm": 500_000,
        "min_prompts_ppm": 900_000,
        "min_keyframes": 3,
        "min_similarity_ppm": 425_000,
        "min_threshold_ppm": 425_000,
        "models": {
            "LIVENESS": [base64url.encode(LIVENESS_MODEL)],
            "FACE_MATCH": [base64url.encode(MATCH_MODEL)],
        },
        "phone_trusted": purpose in {Purpose.ISSUE, Purpose.REISSUE, Purpose.SIGN, Purpose.RESUME},
        "otp_max_age_s": 120,
    }


def document(title: str, *, signing_time: int = NOW - 121, certificate_sha256: bytes = CERTIFICATE) -> Document:
    """A document whose digest to sign is rebuilt (CAdES) from the digest of a content named `title`."""
    content = digest_of(title)
    rebuilt = signed_attributes.digest(content, certificate_sha256, signing_time)
    return Document(title=title, content_sha256=content, digest_sha256=rebuilt, binding=Binding.REBUILT)


def transaction_of(purpose: Purpose, *, now: int = NOW, openings: Openings | None = None) -> Transaction:
    """A valid transaction of `purpose`, created two minutes before `now`. Its names are new each time."""
    shown = openings or sandbox_openings()
    signing_time = now - 121
    only: dict[Purpose, dict[str, Any]] = {
        Purpose.IDENTIFY: {},
        Purpose.ISSUE: {"profile": "individual-sign", "key_algorithm": "EC_P256"},
        Purpose.REISSUE: {
            "profile": "individual-sign",
            "key_algorithm": "EC_P256",
            "superseded": f"credentials/{new_id()}",
        },
        Purpose.REVOKE: {"certificate_sha256": CERTIFICATE, "reason": "keyCompromise"},
        Purpose.SUSPEND: {"certificate_sha256": CERTIFICATE},
        Purpose.RESUME: {"certificate_sha256": CERTIFICATE},
        Purpose.SIGN: {
            "certificate_sha256": CERTIFICATE,
            "documents": (
                document("Несие шарты.pdf", signing_time=signing_time),
                Document(
                    title="Annex.pdf",
                    content_sha256=digest_of("annex"),
                    digest_sha256=digest_of("signed range of annex"),
                    binding=Binding.DIGEST_ONLY,
                ),
            ),
            "digest_algorithm": "SHA256",
            "signature_algorithm": "ECDSA_P256_SHA256",
            "signing_time": signing_time,
        },
    }
    return Transaction(
        env=Env.SANDBOX,
        authentication=f"authentications/{new_id()}",
        application=f"applications/{new_id()}",
        application_title="Демо Банк",
        purpose=purpose,
        channel=Channel.HOSTED,
        policy=POLICY,
        iin_commitment=shown.iin_commitment(),
        phone_commitment=shown.phone_commitment(),
        credential="" if purpose is Purpose.IDENTIFY else f"credentials/{new_id()}",
        consents=(Consent(id="personal-data", version="1", text_sha256=digest_of("consent")),),
        scopes=("name", "birth_date"),
        nonce=digest_of("nonce"),
        created_at=now - 120,
        expires_at=now + 600,
        **only[purpose],
    )


def facts_of(factor: Factor, made: Transaction, *, now: int = NOW, **changed: Any) -> Facts:
    """The facts that a spoke states for a person who passes, with `changed` fields."""
    facts: dict[Factor, Facts] = {
        Factor.PREPARATION: Preparation(preparation="preparation-1", documents_sha256=documents_sha256(made.documents)),
        Factor.STATE_RECORD: StateRecord(
            iin_commitment=made.iin_commitment,
            phone_commitment=made.phone_commitment,
            phone_trusted=True,
            phone_trusted_since=now - 10_000_000,
            photo_sha256=PHOTO,
        ),
        Factor.LIVENESS: Liveness(
            session="session-1",
            attempt=1,
            script="script-1",
            keyframes_sha256=KEYFRAMES,
            quality_pose=(100, 90, 80),
            quality_eyes=(100, 90, 80),
            quality_sharpness=(100, 90, 80),
            quality_light=(100, 90, 80),
            quality_contrast=(100, 90, 80),
            quality_size=(100, 90, 80),
            score_passive_ppm=910_000,
            score_prompts_ppm=1_000_000,
            signals=("MODEL_A", "BLINK"),
            signals_ppm=(990_000, 400_000),
            thresholds_ppm=(900_000, 0),
            flash="NOT_SHOWN",
            flash_ppm=0,
            flash_shifted_ppm=0,
            flash_least_ppm=0,
            models_sha256=(LIVENESS_MODEL,),
            channel=made.channel,
        ),
        Factor.FACE_MATCH: FaceMatch(
            probes_sha256=KEYFRAMES,
            reference_sha256=PHOTO,
            similarities_ppm=(700_000, 650_000, 600_000),
            threshold_ppm=425_000,
            models_sha256=(MATCH_MODEL,),
            quality_sharpness=(70, 100, 90, 80),
            quality_illumination_uniformity=(70, 100, 90, 80),
            quality_luminance_mean=(70, 100, 90, 80),
            quality_under_exposure_prevention=(70, 100, 90, 80),
            quality_over_exposure_prevention=(70, 100, 90, 80),
            quality_dynamic_range=(70, 100, 90, 80),
            quality_natural_colour=(70, 100, 90, 80),
            quality_compression_artifacts=(70, 100, 90, 80),
            quality_inter_eye_distance=(70, 100, 90, 80),
            quality_head_pose_yaw=(70, 100, 90, 80),
            quality_head_pose_roll=(70, 100, 90, 80),
            quality_head_size=(70, 100, 90, 80),
            quality_face_margins=(70, 100, 90, 80),
            quality_background_uniformity=(70, 100, 90, 80),
            quality_single_face_present=(70, 100, 90, 80),
        ),
        Factor.SMS_OTP: SmsOtp(
            phone_commitment=made.phone_commitment,
            text_sha256=digest_of("text"),
            sent_at=now - 40,
            verified_at=now - 10,
        ),
        Factor.KEY_ATTESTATION: KeyAttestation(
            credential=made.credential,
            subject_hmac=digest_of("subject"),
            phone_hmac=digest_of("phone"),
            public_key_sha256=digest_of("public key"),
            wrapped_sha256=digest_of("wrapped"),
        ),
        Factor.KEY_DESTRUCTION: KeyDestruction(
            credential=made.credential,
            public_key_sha256=digest_of("public key"),
            wrapped_sha256=digest_of("wrapped"),
            ending="REVOKED",
            destroyed_at=now - AGE_S[Factor.KEY_DESTRUCTION],
        ),
    }
    return replace(facts[factor], **changed)
