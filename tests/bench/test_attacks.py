from dataclasses import replace

import numpy as np
import pytest
from cv2.typing import MatLike

from bench.attacks.animated import Parameters, acted
from bench.attacks.material import MaterialError, Materials, window_of
from bench.attacks.species import SPECIES, make

SEED = 7


def frames(materials: Materials, species: str, number: int = 0, seed: int = SEED) -> list[MatLike]:
    return list(make(species, number, seed, materials).frames_bgr)


@pytest.mark.parametrize("species", SPECIES)
def test_the_same_seed_makes_the_same_clip_and_another_number_another(species: str, materials: Materials) -> None:
    once, again, other = (frames(materials, species, number) for number in (0, 0, 1))
    assert len(once) == len(again)
    assert all(map(np.array_equal, once, again))
    assert len(once) != len(other) or not all(map(np.array_equal, once, other))


@pytest.mark.parametrize("species", SPECIES)
def test_a_clip_differs_from_what_it_was_made_of(species: str, materials: Materials) -> None:
    made = make(species, 0, SEED, materials)
    source = materials.own[0]
    genuine = window_of(source, 0, source.frames).frames_bgr
    shown = list(made.frames_bgr)
    assert shown
    assert {frame.shape for frame in shown} == {genuine[0].shape}
    # In its pictures, or in their order.
    first = [int(np.argmin([np.abs(one.astype(int) - frame).mean() for one in genuine])) for frame in shown]
    in_order = first == list(range(first[0], first[0] + len(shown)))
    assert not (in_order and all(np.array_equal(genuine[index], frame) for index, frame in zip(first, shown)))  # noqa: B905


def test_frozen_and_looped_clips_show_pictures_again(materials: Materials) -> None:
    for species in ("frozen", "looped"):
        made = [make(species, number, SEED, materials) for number in range(6)]
        quiet = next(one for one in made if not one.parameters["noisy"])
        shown = [frame.tobytes() for frame in quiet.frames_bgr]
        assert len(set(shown)) < len(shown)


def test_a_splice_names_both_people(materials: Materials) -> None:
    sources = make("splice", 0, SEED, materials).sources
    assert [source.partition("_")[0] for source in sources] == ["woman", "man"]


def test_a_face_that_is_not_found_cannot_be_swapped(materials: Materials) -> None:
    found = materials.points
    calls = iter(range(10_000))

    def mostly_lost(frame_bgr: MatLike) -> np.ndarray | None:
        return found(frame_bgr) if next(calls) % 4 == 0 else None

    with pytest.raises(MaterialError, match="no face to swap in"):
        make("face-swap", 0, SEED, replace(materials, points=mostly_lost))


@pytest.mark.parametrize("species", ["splice", "face-swap"])
def test_another_person_is_needed(species: str, materials: Materials) -> None:
    with pytest.raises(MaterialError, match="of another person"):
        make(species, 0, SEED, replace(materials, others=[]))


def test_gestures_go_where_the_product_reads_them(materials: Materials) -> None:
    rng = np.random.default_rng(SEED)
    points = materials.still(rng, of_others=True).points
    drawn = replace(Parameters.draw(rng, (2, 3)), turn=20, nod=12, smile=0.1, gap=0.15)
    nose, lip, corners, lids = 1, 14, (61, 291), (159, 145)

    def moved(gesture: str) -> np.ndarray:
        return acted(points, drawn, gesture, 1.0, (0, 0)) - points[:, :2]

    # The person's own left is on the picture's right; down is down.
    assert moved("turn_left")[nose, 0] > 0 > moved("turn_right")[nose, 0]
    assert moved("look_down")[nose, 1] > 0
    assert moved("open_mouth")[lip, 1] > 0
    assert moved("smile")[corners[1], 0] > 0 > moved("smile")[corners[0], 0]
    shut = acted(points, drawn, "blink", 1.0, (0, 0))
    gap = points[lids[1], 1] - points[lids[0], 1]
    assert shut[lids[1], 1] - shut[lids[0], 1] < 0.2 * gap
