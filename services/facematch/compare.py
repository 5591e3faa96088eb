"""The decision: does every probe show the person of the reference photo?

This service remembers nobody for longer than a retry takes, so it counts no attempts: the gateway's state machine lets
a transaction reach it a limited number of times, and liveness limits how often anybody may try to become somebody.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mesh import metrics
from mesh.admission import admit
from mesh.errors import FieldViolation, FinIdError, InvalidArgumentError
from mesh.facts import PPM, FaceMatch
from mesh.receipts import CurrentSigner
from services.facematch.errors import (
    ERROR_OF,
    REFERENCE,
    FaceMismatchError,
    PictureError,
    PolicyUnknownError,
    ProbeRepeatedError,
    QualityTooLowError,
    probe,
)
from services.facematch.photo import PhotoKey
from services.facematch.pictures import QUALITY_COMPONENTS, Embedding, FaceReader, Fault, Portrait, Quality
from services.facematch.policies import Policy
from services.facematch.references import ReferenceCache

MAX_PROBES = 12


@dataclass(frozen=True, slots=True)
class Comparison:
    """A passed comparison: its receipt, and what it says of the probes, in their order.

    `qualities` are those of the reference and of each probe.
    """

    receipt: str
    similarities_ppm: tuple[int, ...]
    threshold_ppm: int
    qualities: tuple[Quality, ...]


@dataclass(frozen=True, slots=True)
class Matcher:
    """Compares faces and states the result. `models_sha256` are the detector's and the embedder's digests."""

    faces: FaceReader
    references: ReferenceCache
    photo_key: PhotoKey
    policies: Mapping[str, Policy]
    models_sha256: tuple[bytes, ...]
    signer: CurrentSigner
    now: Callable[[], int]

    async def compare(self, transaction_bytes: bytes, photo_jwe: str, probes: Sequence[bytes]) -> Comparison:
        """Return the receipt that every probe shows the person of the reference photo.

        Raises PreconditionError for a transaction that is not one, not of this environment or not current;
        PolicyUnknownError; InvalidArgumentError for no probe or too many; ProbeRepeatedError; a PictureError that names
        the first picture that cannot be used, or is not as good as the policy asks; FaceMismatchError.
        """
        try:
            passed = await self._compare(transaction_bytes, photo_jwe, probes)
        except FinIdError as error:
            metrics.FACEMATCH_COMPARISONS.add(outcome=error.reason)
            raise
        metrics.FACEMATCH_COMPARISONS.add(outcome="MATCH")
        return passed

    async def _compare(self, transaction_bytes: bytes, photo_jwe: str, probes: Sequence[bytes]) -> Comparison:
        # 1. The transaction is one, and lives.
        asked = admit(transaction_bytes, self.signer().env, self.now())
        policy = self.policies.get(asked.transaction.policy)
        if policy is None:
            raise PolicyUnknownError("The transaction's policy is not known here.")

        # 2. Every probe shows exactly one face; of those on the photo one is meant. No probe at all would be "all of
        #    them are alike".
        if not 1 <= len(probes) <= MAX_PROBES:
            raise InvalidArgumentError(
                "The number of probes is wrong.", violations=[FieldViolation("probes", f"must be 1 to {MAX_PROBES}")]
            )
        probes_sha256 = tuple(hashlib.sha256(picture).digest() for picture in probes)
        if len(set(probes_sha256)) != len(probes):
            raise ProbeRepeatedError("A picture stands for more than one prompt.")
        try:
            photo = self.photo_key.open(photo_jwe)
        except PictureError:
            # The gateway asks for people without a record too, and must not be answered sooner, or when others are not.
            await self.faces.read(probes, [policy.rule] * len(probes))
            raise
        photo_sha256 = hashlib.sha256(photo).digest()
        reference, others = await self._faces(photo, photo_sha256, probes, policy)

        # 3. Every probe is like the reference. One that is not refuses all: whoever brings a live face for two prompts
        #    and a victim's picture for the third has not passed.
        similarities_ppm = tuple(similarity_ppm(reference.embedding, other.embedding) for other in others)
        if not all(similarity >= policy.threshold_ppm for similarity in similarities_ppm):
            raise FaceMismatchError("The faces are not all of the person in the reference photo.")

        # 4. Say so.
        qualities = (reference.quality, *(other.quality for other in others))
        stated = FaceMatch(
            probes_sha256=probes_sha256,
            reference_sha256=photo_sha256,
            similarities_ppm=similarities_ppm,
            threshold_ppm=policy.threshold_ppm,
            models_sha256=self.models_sha256,
            **{f"quality_{name}": tuple(getattr(one, name) for one in qualities) for name in QUALITY_COMPONENTS},
        )
        receipt = self.signer().sign(stated, txn=asked.txn, policy=policy.id, now=self.now())
        return Comparison(receipt, similarities_ppm, policy.threshold_ppm, qualities)

    async def _faces(
        self, photo: bytes, photo_sha256: bytes, probes: Sequence[bytes], policy: Policy
    ) -> tuple[Portrait, list[Portrait]]:
        """The faces of the reference, which a retry does not read again, and of the probes, read in one call."""
        kept = self.references.find(photo_sha256, policy.document_rule)
        asked, rules = list(probes), [policy.rule] * len(probes)
        if kept is None:
            asked, rules = [photo, *asked], [policy.document_rule, *rules]
        found = await self.faces.read(asked, rules)
        reference, *others = found if kept is None else (kept, *found)
        reference = _usable(reference, REFERENCE)
        # Also when a probe cannot be used: that is what people try again for.
        if kept is None:
            self.references.keep(photo_sha256, policy.document_rule, reference)
        return reference, [_good(other, probe(index), policy) for index, other in enumerate(others)]


def _usable(face: Portrait | Fault, picture: str) -> Portrait:
    if isinstance(face, Fault):
        raise ERROR_OF[face](picture)
    return face


def _good(face: Portrait | Fault, picture: str, policy: Policy) -> Portrait:
    """A usable face that is as good as the policy asks; the reference is not asked, since nobody can take it again."""
    portrait = _usable(face, picture)
    for component, least in policy.min_quality.items():
        if getattr(portrait.quality, component) < least:
            raise QualityTooLowError(picture, component)
    return portrait


def similarity_ppm(one: Embedding, other: Embedding) -> int:
    """The cosine of the angle between two embeddings, in millionths, rounded down, within one million either way."""
    cosine = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return max(-PPM, min(PPM, math.floor(cosine * PPM)))
