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

from deploy.local import floors
from mesh import metrics, receipts
from mesh.errors import FinIdError, InvalidArgumentError
from mesh.facts import FaceMatch, Factor
from mesh.refusal import PreconditionError, Refusal
from mesh.transaction import Env, Purpose, Transaction, txn_of
from services.facematch import errors, policies
from services.facematch.compare import Comparison, Matcher, similarity_ppm
from services.facematch.photo import PhotoKey
from services.facematch.pictures import (
    EMBEDDING_VALUES,
    QUALITY_COMPONENTS,
    Embedding,
    FaceRule,
    Fault,
    Portrait,
    Quality,
)
from services.facematch.policies import Policy
from services.facematch.references import ReferenceCache
from services.liveness import policies as liveness_policies
from services.registry.photo import PhotoRecipient
from tests.bundles import NOW, World, transaction_of
from tests.facematch.caches import FakeTimers, cache_of
from tests.measured import Grown

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


def rated(**changed: int) -> Quality:
    """A quality whose components differ."""
    return Quality(**{name: 60 + index for index, name in enumerate(QUALITY_COMPONENTS)} | changed)


class FakeFaces:
    """Knows pictures by their bytes; whatever it does not know has no face. `qualities` are as `rated` if not given."""

    def __init__(self, known: dict[bytes, Embedding | Fault] | None = None) -> None:
        self.known: dict[bytes, Embedding | Fault] = {PHOTO: face_at(1.0), **(known or {})}
        self.qualities: dict[bytes, Quality] = {}
        self.asked: list[Sequence[FaceRule]] = []

    async def read(self, pictures: Sequence[bytes], rules: Sequence[FaceRule]) -> list[Portrait | Fault]:
        assert len(pictures) == len(rules)
        self.asked.append(rules)
        found = [(picture, self.known.get(picture, Fault.NO_FACE)) for picture in pictures]
        return [
            face if isinstance(face, Fault) else Portrait(face, self.qualities.get(picture, rated()))
            for picture, face in found
        ]


def matcher(
    faces: FakeFaces, now: int = NOW, references: ReferenceCache | None = None, policy: Policy = POLICY
) -> Matcher:
    return Matcher(
        faces=faces,
        references=cache_of(FakeTimers()) if references is None else references,
        photo_key=PhotoKey(KEY),
        policies={policy.id: policy},
        models_sha256=MODELS,
        signer=lambda: WORLD.signer_of(Factor.FACE_MATCH),
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
        **{f"quality_{name}": (60 + index,) * 4 for index, name in enumerate(QUALITY_COMPONENTS)},
    )
    assert receipt.policy == POLICY.id
    assert (passed.similarities_ppm, passed.threshold_ppm) == ((900_000, 500_000, 700_000), 425_000)


def test_states_the_quality_of_the_reference_and_of_each_probe() -> None:
    faces, probes = probes_at(0.9, 0.9)
    faces.qualities = {PHOTO: rated(sharpness=1), probes[0]: rated(sharpness=2), probes[1]: rated(sharpness=3)}
    passed = compare(faces, probes)
    assert [quality.sharpness for quality in passed.qualities] == [1, 2, 3]
    stated = receipts.parse(passed.receipt).facts
    assert isinstance(stated, FaceMatch)
    assert (stated.quality_sharpness, stated.quality_face_margins) == ((1, 2, 3), (72, 72, 72))


def test_the_receipt_of_most_probes_is_one_that_verifiers_read() -> None:
    faces, probes = probes_at(*[0.9] * 12)
    faces.qualities = {picture: Quality(*[100] * len(QUALITY_COMPONENTS)) for picture in (PHOTO, *probes)}
    assert len(compare(faces, probes).receipt) < receipts.MAX_RECEIPT_CHARS / 2


ASKS = replace(POLICY, min_quality={"sharpness": 40, "luminance_mean": 30})


def compare_by(policy: Policy, faces: FakeFaces, probes: Sequence[bytes]) -> Comparison:
    asked = transaction_of(Purpose.IDENTIFY).encode()
    return asyncio.run(matcher(faces, policy=policy).compare(asked, sealed(), probes))


@pytest.mark.parametrize("component", ASKS.min_quality)
def test_refuses_a_probe_that_is_not_as_good_as_the_policy_asks(component: str) -> None:
    faces, probes = probes_at(0.9, 0.9)
    least = ASKS.min_quality[component]
    faces.qualities[probes[1]] = rated(**{component: least})
    compare_by(ASKS, faces, probes)
    faces.qualities[probes[1]] = rated(**{component: least - 1})
    with pytest.raises(errors.QualityTooLowError) as refused:
        compare_by(ASKS, faces, probes)
    assert refused.value.metadata == {"image": "probes[1]", "component": component}


def test_what_the_policy_does_not_ask_for_refuses_nobody() -> None:
    faces, probes = probes_at(0.9)
    nothing = Quality(*[0] * len(QUALITY_COMPONENTS))
    faces.qualities = {PHOTO: nothing, probes[0]: nothing}
    compare(faces, probes)


def test_a_reference_that_nobody_can_take_again_may_be_as_bad_as_it_is() -> None:
    faces, probes = probes_at(0.9)
    faces.qualities[PHOTO] = rated(sharpness=0, luminance_mean=0)
    compare_by(ASKS, faces, probes)


def test_takes_faces_by_the_rule_of_the_policy() -> None:
    faces, probes = probes_at(0.9)
    compare(faces, probes)
    of_probes = FaceRule(min_score_ppm=700_000, min_face_px=75)
    of_the_photo = FaceRule(min_score_ppm=700_000, min_face_px=48, takes_largest=True)
    assert faces.asked == [[of_the_photo, of_probes]]


def test_passes_at_the_threshold_and_fails_just_below() -> None:
    counted = [Grown.of(metrics.FACEMATCH_COMPARISONS, outcome=outcome) for outcome in ("MATCH", "FACE_MISMATCH")]
    faces, probes = probes_at(0.425001)
    compare(faces, probes)
    faces, probes = probes_at(0.424999)
    with pytest.raises(errors.FaceMismatchError):
        compare(faces, probes)
    assert [one.by() for one in counted] == [1, 1]


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


def again(faces: FakeFaces, references: ReferenceCache, probes: Sequence[bytes], photo: bytes = PHOTO) -> Comparison:
    """Compare by a service that remembers what `references` does."""
    asked = transaction_of(Purpose.IDENTIFY).encode()
    return asyncio.run(matcher(faces, references=references).compare(asked, sealed(photo), probes))


def test_a_retry_costs_one_embedding_less_and_says_the_same() -> None:
    faces, probes = probes_at(0.9, 0.5)
    references = cache_of(FakeTimers())
    first, second = (again(faces, references, probes) for _ in range(2))
    assert faces.asked == [[POLICY.document_rule, POLICY.rule, POLICY.rule], [POLICY.rule, POLICY.rule]]
    assert second.similarities_ppm == pytest.approx(first.similarities_ppm, abs=1)  # float32 lies between
    stated, restated = (receipts.parse(passed.receipt).facts for passed in (first, second))
    assert isinstance(stated, FaceMatch)
    assert restated == replace(stated, similarities_ppm=second.similarities_ppm)


def test_a_retry_after_a_probe_that_cannot_be_used_or_does_not_match_costs_one_embedding_less() -> None:
    faces, (other, unseen, good) = probes_at(0.1, 0.9, 0.9)
    faces.known[unseen] = Fault.NO_FACE
    references = cache_of(FakeTimers())
    with pytest.raises(errors.NoFaceError):
        again(faces, references, [unseen])
    with pytest.raises(errors.FaceMismatchError):
        again(faces, references, [other])
    again(faces, references, [good])
    assert [len(asked) for asked in faces.asked] == [2, 1, 1]


def test_a_reference_that_cannot_be_used_is_read_again_each_time() -> None:
    faces, probes = probes_at(0.9)
    faces.known[PHOTO] = Fault.NO_FACE
    references = cache_of(FakeTimers())
    for _ in range(2):
        with pytest.raises(errors.NoFaceError):
            again(faces, references, probes)
    assert [len(asked) for asked in faces.asked] == [2, 2]
    assert len(references) == 0


def test_another_photo_is_another_face() -> None:
    faces, probes = probes_at(0.9)
    faces.known[b"another photo"] = face_at(-0.9)
    references = cache_of(FakeTimers())
    again(faces, references, probes)
    with pytest.raises(errors.FaceMismatchError):
        again(faces, references, probes, photo=b"another photo")
    assert [len(asked) for asked in faces.asked] == [2, 2]


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


SHIPPED = policies.load(Path(policies.__file__).with_name("policies.toml"))


def test_the_shipped_policy_that_floors_name_is_this_one() -> None:
    assert SHIPPED[floors.POLICY] == POLICY


def test_ships_exactly_these_policies() -> None:
    assert {policy.id: policy.threshold_ppm for policy in SHIPPED.values()} == {
        "sandbox-standard": 425_000,
        "full-range": 425_000,
        "sandbox-strict": 482_000,
    }


def test_a_policy_of_liveness_means_something_here() -> None:
    """A transaction names one policy for every room."""
    assert set(liveness_policies.load(Path(liveness_policies.__file__).with_name("policies.toml"))) <= set(SHIPPED)


def test_the_strict_threshold_is_a_decade_further_on_the_line_through_the_measured_ones() -> None:
    measured = {1e-3: 0.368, 1e-4: 0.425}
    a_decade = measured[1e-4] - measured[1e-3]
    assert SHIPPED["sandbox-strict"].threshold_ppm == round((measured[1e-4] + a_decade) * 1_000_000)


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
        policy_text("min_quality = 1"),
        policy_text("min_quality = {beauty = 50}"),
        policy_text("min_quality = {sharpness = 0}"),
        policy_text("min_quality = {sharpness = 101}"),
        policy_text("min_quality = {sharpness = true}"),
        policy_text("min_quality = {sharpness = 50.0}"),
        f"{policy_text()}\n{policy_text()}",
        "not toml",
    ],
)
def test_refuses_a_file_of_policies_that_is_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(text)
    with pytest.raises(policies.PoliciesError):
        policies.load(file)
