"""The decision: every probe is the reference's person, or there is no receipt."""

import asyncio
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from mesh import receipts
from mesh.errors import FinIdError, InvalidArgumentError
from mesh.facts import FaceMatch, Factor
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, Purpose, Transaction, txn_of
from services.facematch import errors, policies
from services.facematch.compare import Comparison, Matcher, similarity_ppm
from services.facematch.photo import PhotoKey
from services.facematch.pictures import EMBEDDING_VALUES, Embedding, FaceRule, Fault
from services.facematch.policies import Policy
from services.registry.photo import PhotoRecipient
from tests.bundles import NOW, World, transaction_of

POLICY = Policy(
    id="sandbox-standard", threshold_ppm=425_000, min_score_ppm=700_000, min_face_px=75, min_document_face_px=48
)
PHOTO = b"the reference photo"
KEY = ECKey.generate_key("P-256", private=True)
WORLD = World()
MODELS = (hashlib.sha256(b"detector").digest(), hashlib.sha256(b"embedder").digest())


def face_at(cosine: float) -> Embedding:
    """A face whose cosine to the reference is given."""
    return (cosine, math.sqrt(1 - cosine * cosine)) + (0.0,) * (EMBEDDING_VALUES - 2)


class FakeFaces:
    """Knows pictures by their bytes; whatever it does not know has no face."""

    def __init__(self, known: dict[bytes, Embedding | Fault] | None = None) -> None:
        self.known: dict[bytes, Embedding | Fault] = {PHOTO: face_at(1.0), **(known or {})}
        self.asked: list[Sequence[FaceRule]] = []

    async def read(self, pictures: Sequence[bytes], rules: Sequence[FaceRule]) -> list[Embedding | Fault]:
        assert len(pictures) == len(rules)
        self.asked.append(rules)
        return [self.known.get(picture, Fault.NO_FACE) for picture in pictures]


def matcher(faces: FakeFaces, now: int = NOW) -> Matcher:
    return Matcher(
        faces=faces,
        photo_key=PhotoKey(KEY),
        policies={POLICY.id: POLICY},
        models_sha256=MODELS,
        signer=WORLD.signer_of(Factor.FACE_MATCH),
        now=lambda: now,
    )


def probes_at(*cosines: float) -> tuple[FakeFaces, list[bytes]]:
    pictures = [f"probe {index}".encode() for index in range(len(cosines))]
    return FakeFaces(dict(zip(pictures, map(face_at, cosines), strict=True))), pictures


def sealed(photo: bytes = PHOTO) -> str:
    return PhotoRecipient.from_jwk(json.dumps(KEY.as_dict(private=False))).encrypt(photo)


def compare(
    faces: FakeFaces,
    probes: Sequence[bytes],
    *,
    asked: Transaction | None = None,
    photo: bytes = PHOTO,
    now: int = NOW,
) -> Comparison:
    encoded = (asked or transaction_of(Purpose.IDENTIFY)).encode()
    return asyncio.run(matcher(faces, now).compare(encoded, sealed(photo), probes))


def test_states_what_was_compared_in_the_order_of_the_probes() -> None:
    faces, probes = probes_at(0.9, 0.5, 0.7)
    asked = transaction_of(Purpose.SIGN)
    passed = compare(faces, probes, asked=asked)
    receipt = receipts.verify(passed.receipt, FaceMatch, WORLD.pins(), txn=txn_of(asked.encode()), now=NOW)
    assert receipt.facts == FaceMatch(
        probes_sha256=tuple(hashlib.sha256(picture).digest() for picture in probes),
        reference_sha256=hashlib.sha256(PHOTO).digest(),
        similarities_ppm=(900_000, 500_000, 700_000),
        threshold_ppm=425_000,
        models_sha256=MODELS,
    )
    assert receipt.policy == POLICY.id
    assert (passed.similarities_ppm, passed.threshold_ppm) == ((900_000, 500_000, 700_000), 425_000)


def test_takes_faces_by_the_rule_of_the_policy() -> None:
    faces, probes = probes_at(0.9)
    compare(faces, probes)
    of_probes = FaceRule(min_score_ppm=700_000, min_face_px=75)
    of_the_photo = FaceRule(min_score_ppm=700_000, min_face_px=48, takes_largest=True)
    assert faces.asked == [[of_the_photo, of_probes]]


def test_passes_at_the_threshold_and_fails_just_below() -> None:
    faces, probes = probes_at(0.425001)
    compare(faces, probes)
    faces, probes = probes_at(0.424999)
    with pytest.raises(errors.FaceMismatchError):
        compare(faces, probes)


@pytest.mark.parametrize("place", range(3))
def test_refuses_when_one_probe_shows_somebody_else(place: int) -> None:
    cosines = [0.9, 0.9, 0.9]
    cosines[place] = 0.1
    faces, probes = probes_at(*cosines)
    with pytest.raises(errors.FaceMismatchError):
        compare(faces, probes)


def test_a_mismatch_tells_no_score() -> None:
    faces, probes = probes_at(0.3)
    with pytest.raises(errors.FaceMismatchError) as refused:
        compare(faces, probes)
    assert refused.value.metadata == {}
    assert not any(digit in refused.value.message for digit in "0123456789")


@pytest.mark.parametrize(("fault", "kind"), errors.ERROR_OF.items())
def test_names_the_probe_that_cannot_be_used(fault: Fault, kind: type[errors.PictureError]) -> None:
    faces, probes = probes_at(0.9, 0.9, 0.9)
    faces.known[probes[1]] = fault
    with pytest.raises(kind) as refused:
        compare(faces, probes)
    assert refused.value.metadata == {"image": "probes[1]"}
    assert [violation.field for violation in refused.value.violations] == ["probes[1]"]


@pytest.mark.parametrize(("fault", "kind"), errors.ERROR_OF.items())
def test_names_the_reference_that_cannot_be_used(fault: Fault, kind: type[errors.PictureError]) -> None:
    faces, probes = probes_at(0.9)
    faces.known[PHOTO] = fault
    with pytest.raises(kind) as refused:
        compare(faces, probes)
    assert refused.value.metadata == {"image": "photo_jwe"}


def test_reads_the_probes_even_when_there_is_no_photo_to_compare_them_with() -> None:
    faces, probes = probes_at(0.9, 0.9, 0.9)
    with pytest.raises(errors.PhotoNotOpenedError):
        asyncio.run(matcher(faces).compare(transaction_of(Purpose.IDENTIFY).encode(), "none", probes))
    assert faces.asked == [[POLICY.rule] * 3]


def test_every_fault_has_an_error_of_its_own() -> None:
    assert set(errors.ERROR_OF) == set(Fault)
    assert len({kind.reason for kind in errors.ERROR_OF.values()}) == len(Fault)


@pytest.mark.parametrize("count", [0, 13])
def test_refuses_no_probe_and_too_many(count: int) -> None:
    faces, probes = probes_at(*[0.9] * count)
    with pytest.raises(InvalidArgumentError):
        compare(faces, probes)
    assert faces.asked == []


def test_refuses_one_picture_for_two_prompts() -> None:
    faces, probes = probes_at(0.9, 0.9)
    with pytest.raises(errors.ProbeRepeatedError):
        compare(faces, [*probes, probes[0]])
    assert faces.asked == []


def refusal_of(asked: bytes, now: int = NOW) -> tuple[FinIdError, FakeFaces]:
    faces, probes = probes_at(0.9)
    with pytest.raises(FinIdError) as refused:
        asyncio.run(matcher(faces, now).compare(asked, sealed(), probes))
    return refused.value, faces


@pytest.mark.parametrize(
    ("asked", "now", "refusal"),
    [
        (b"{}", NOW, Refusal.TRANSACTION_INVALID),
        (transaction_of(Purpose.IDENTIFY).encode() + b" ", NOW, Refusal.TRANSACTION_INVALID),
        (replace(transaction_of(Purpose.IDENTIFY), env=Env.PRODUCTION).encode(), NOW, Refusal.ENV_MISMATCH),
        (transaction_of(Purpose.IDENTIFY).encode(), NOW + 3600, Refusal.TRANSACTION_EXPIRED),
        (transaction_of(Purpose.IDENTIFY).encode(), NOW - 3600, Refusal.TRANSACTION_NOT_YET_VALID),
    ],
)
def test_looks_at_no_face_for_a_transaction_that_does_not_live(asked: bytes, now: int, refusal: Refusal) -> None:
    error, faces = refusal_of(asked, now)
    assert isinstance(error, PreconditionError)
    assert error.refusal is refusal
    assert faces.asked == []


def test_refuses_a_policy_it_does_not_have() -> None:
    error, faces = refusal_of(replace(transaction_of(Purpose.IDENTIFY), policy="anything-goes").encode())
    assert isinstance(error, errors.PolicyUnknownError)
    assert faces.asked == []


def test_similarity_is_rounded_down_and_bounded() -> None:
    assert similarity_ppm(face_at(1.0), face_at(0.4249999)) == 424_999
    assert similarity_ppm(face_at(1.0), face_at(-1.0)) == -1_000_000
    assert similarity_ppm((1.0001,), (1.0001,)) == 1_000_000


def test_the_shipped_policies_are_those_that_floors_name() -> None:
    shipped = policies.load(Path(policies.__file__).with_name("policies.toml"))
    assert shipped == {POLICY.id: POLICY, "sandbox-strict": replace(POLICY, id="sandbox-strict")}


_POLICY_LINES = ("id = 'a'", "threshold_ppm = 1", "min_score_ppm = 1", "min_face_px = 1", "min_document_face_px = 1")


def policy_text(*changed: str) -> str:
    """A policy with some lines changed, or with one more."""
    lines = {line.partition(" ")[0]: line for line in (*_POLICY_LINES, *changed)}
    return "\n".join(["[[policy]]", *lines.values()])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "policy = []",
        "\n".join(["[[policy]]", *_POLICY_LINES[:-1]]),
        policy_text("more = 1"),
        policy_text("threshold_ppm = 0"),
        policy_text("threshold_ppm = 1000001"),
        policy_text("threshold_ppm = 0.425"),
        policy_text("threshold_ppm = nan"),
        policy_text("threshold_ppm = true"),
        policy_text("min_document_face_px = 0"),
        policy_text("min_document_face_px = 48.0"),
        f"{policy_text()}\n{policy_text()}",
        "not toml",
    ],
)
def test_refuses_a_file_of_policies_that_is_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(text)
    with pytest.raises(policies.PoliciesError):
        policies.load(file)
