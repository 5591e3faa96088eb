"""Short small clips of the sample people, and the product's landmark model for what is drawn through a face's mesh."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import structlog
from cv2.typing import MatLike

from bench import clips
from bench.attacks.landmarks import Landmarks, Points
from bench.attacks.material import Materials, sources_in
from tests import samples

FPS = 12.0
FRAMES = 14
_STARTS = {"woman": samples.WOMAN_SMILES, "man": samples.MAN_NEUTRAL}


@pytest.fixture(scope="session")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip of each person."""
    folder = tmp_path_factory.mktemp("genuine")
    for person, start in _STARTS.items():
        frames = samples.clip_frames(f"{person}.mp4")[start : start + 2 * FRAMES : 2]
        small = [cv2.resize(frame, None, fx=480 / frame.shape[1], fy=480 / frame.shape[1]) for frame in frames]
        clips.write(folder / f"{person}_small.avi", [frame[: frame.shape[0] // 2 * 2] for frame in small], FPS)
    return folder


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command sets up logging for its whole process, to a stream that is the test's own and closed after it."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(scope="package")
def points_of() -> Iterator[Callable[[MatLike], Points | None]]:
    """The landmark model in a worker, for threads outside its loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Landmarks:
        landmarks = Landmarks(samples.assets_folder() / "models" / "face_landmarker.task", 1)
        await landmarks.pool.__aenter__()
        return landmarks

    landmarks = asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    yield landmarks
    asyncio.run_coroutine_threadsafe(landmarks.pool.__aexit__(None, None, None), loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def materials(genuine: Path, points_of: Callable[[MatLike], Points | None]) -> Materials:
    """The woman before the camera, the man as the other."""
    sources, _ = sources_in([genuine])
    return Materials(
        own=[source for source in sources if source.person == "woman"],
        others=[source for source in sources if source.person != "woman"],
        points=points_of,
        seconds=(0.5, 0.6),
    )
