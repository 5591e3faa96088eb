"""What attacks are made of: windows of somebody's clips, and stills of that person and of others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cv2.typing import MatLike
from numpy.random import Generator

from bench import clips
from bench.attacks.landmarks import Points
from bench.clips import ClipUnreadableError, Unusable

# More frames a second cost time and are not looked at: the demonstration's camera takes ten.
MAX_FPS = 15.0
_TRIES = 25


class MaterialError(Exception):
    """What an attack needs is not there; says what."""


@dataclass(frozen=True, slots=True)
class Source:
    """A genuine clip, or with `frames` 1 and `fps` 0 a photo. `person`: its name up to the first underscore."""

    path: Path
    fps: float
    frames: int

    @property
    def person(self) -> str:
        """Who it is."""
        return self.path.stem.partition("_")[0]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a clip, thinned to MAX_FPS."""

    of: str
    fps: float
    frames_bgr: Sequence[MatLike]


@dataclass(frozen=True, slots=True)
class Still:
    """One picture with one face, and the face's points."""

    of: str
    bgr: MatLike
    points: Points


@dataclass(frozen=True, slots=True)
class Made:
    """An attack: its frames (made while they are read), and what it was made of and with."""

    frames_bgr: Iterable[MatLike]
    fps: float
    sources: Sequence[str]
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Materials:
    """Clips and photos. `own` are of the person before the camera, `others` of anybody else."""

    own: Sequence[Source]
    others: Sequence[Source]
    points: Callable[[MatLike], Points | None]
    seconds: tuple[float, float] = (2.0, 3.5)

    def window(self, rng: Generator, *, of_others: bool = False) -> Window:
        """Draw a part of a clip, as long as `seconds` say or as the clip is. Raises MaterialError."""
        sources = [source for source in (self.others if of_others else self.own) if source.fps]
        if not sources:
            raise MaterialError("no clip of another person" if of_others else "no clip of the person")
        source = sources[int(rng.integers(len(sources)))]
        count = min(round(float(rng.uniform(*self.seconds)) * source.fps), source.frames)
        return window_of(source, int(rng.integers(source.frames - count + 1)), count)

    def still(self, rng: Generator, *, of_others: bool = False) -> Still:
        """Draw a photo, or a frame of a clip, on which there is one face. Raises MaterialError."""
        sources = self.others if of_others else self.own
        for _ in range(_TRIES if sources else 0):
            source = sources[int(rng.integers(len(sources)))]
            number = int(rng.integers(source.frames))
            picture_bgr = _frame(source, number)
            points = None if picture_bgr is None else self.points(picture_bgr)
            if picture_bgr is not None and points is not None:
                return Still(f"{source.path.name}:{number}", picture_bgr, points)
        raise MaterialError("no picture with one face of another person" if of_others else "no picture with one face")


def sources_in(paths: Iterable[Path]) -> tuple[list[Source], list[Unusable]]:
    """Return the clips and photos among files and folders, and what is neither."""
    sources: list[Source] = []
    unusable: list[Unusable] = []
    for root in paths:
        found, others = clips.find(root)
        unusable += [other for other in others if other.path.suffix.lower() not in clips.PICTURES]
        pictures = [root] if root.suffix.lower() in clips.PICTURES else []
        for clip in found:
            if clip.is_dir():
                pictures += clips.pictures_in(clip)
                continue
            try:
                sources.append(Source(clip, *clips.rate_of(clip)))
            except ClipUnreadableError as error:
                unusable.append(Unusable(clip, str(error)))
        for picture in pictures:
            if clips.photo(picture) is None:
                unusable.append(Unusable(picture, "not a picture"))
            else:
                sources.append(Source(picture, 0.0, 1))
    return sources, unusable


def window_of(source: Source, first: int, count: int) -> Window:
    """Return clip frames `first` and on, `count` of them before they are thinned."""
    step = max(1, -int(-source.fps // MAX_FPS))
    pictures = islice(clips.read(source.path), first, first + count, step)
    frames_bgr = [picture.bgr for picture in pictures if picture is not None]
    return Window(f"{source.path.name}:{first}-{first + count - 1}", source.fps / step, frames_bgr)


def _frame(source: Source, number: int) -> MatLike | None:
    if not source.fps:
        return clips.photo(source.path)
    picture = next(islice(clips.read(source.path), number, number + 1))
    return None if picture is None else picture.bgr
