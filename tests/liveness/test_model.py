"""What the real models say of the sample people, of hostile files, and from within a worker."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike

from mesh.worker import WorkerCallFailedError, WorkerLostError, WorkerPool
from services.liveness.analyser import FrameWorkers, ModelFiles
from services.liveness.model import FrameModel, decode_bgr, pose_deg
from services.liveness.observation import Face
from tests import samples
from tests.liveness.fakes import ModelInProcess

pytestmark = pytest.mark.model

WOMAN_TURNS_RIGHT, WOMAN_BLINKS, WOMAN_OPENS_MOUTH = 5, 288, 277


@pytest.fixture(scope="module")
def woman() -> list[MatLike]:
    return samples.clip_frames("woman.mp4")


async def face_of(model: FrameModel, picture_bgr: MatLike) -> Face:
    (observation,) = await ModelInProcess(model).observe([samples.jpeg(picture_bgr)], passive=[True])
    assert observation is not None
    assert observation.face is not None
    return observation.face


async def test_gestures_of_the_sample_woman_are_read(frame_model: FrameModel, woman: list[MatLike]) -> None:
    neutral = await face_of(frame_model, woman[samples.WOMAN_NEUTRAL])
    smiling = await face_of(frame_model, woman[samples.WOMAN_SMILES])
    blinking = await face_of(frame_model, woman[WOMAN_BLINKS])
    speaking = await face_of(frame_model, woman[WOMAN_OPENS_MOUTH])
    down = await face_of(frame_model, woman[samples.WOMAN_LOOKS_DOWN])
    assert smiling.smile - neutral.smile > 0.2
    assert blinking.eyes < neutral.eyes / 2
    assert speaking.mouth - neutral.mouth > 0.06
    assert down.pitch - neutral.pitch > 6
    assert all(face.live is not None and face.live > 0.9 for face in (neutral, smiling, speaking))


async def test_left_and_right_are_the_persons_own_in_a_picture_that_is_not_mirrored(
    frame_model: FrameModel, woman: list[MatLike]
) -> None:
    """She turns towards the left edge of the picture, which is her own right."""
    neutral = await face_of(frame_model, woman[samples.WOMAN_NEUTRAL])
    turned = await face_of(frame_model, woman[WOMAN_TURNS_RIGHT])
    mirrored = await face_of(frame_model, cv2.flip(woman[WOMAN_TURNS_RIGHT], 1))
    assert turned.yaw - neutral.yaw < -10
    assert mirrored.yaw - neutral.yaw > 10
    assert mirrored.box.left == pytest.approx(1 - turned.box.left - turned.box.width, abs=0.02)


@pytest.mark.parametrize("degrees", [-25.0, 0.0, 25.0])
def test_pose_is_read_from_a_scaled_rotation(degrees: float) -> None:
    turn, zero = math.radians(degrees), 0.0
    cosine, sine = math.cos(turn), math.sin(turn)
    about_y = np.array([[cosine, zero, sine, 1], [zero, 1, zero, 2], [-sine, zero, cosine, 3], [0, 0, 0, 1]])
    about_x = np.array([[1, zero, zero, 1], [zero, cosine, -sine, 2], [zero, sine, cosine, 3], [0, 0, 0, 1]])
    about_z = np.array([[cosine, -sine, zero, 1], [sine, cosine, zero, 2], [zero, zero, 1, 3], [0, 0, 0, 1]])
    for index, matrix in enumerate((about_y, about_x, about_z)):
        scaled = matrix * np.array([1.1, 1.1, 1.1, 1.0])
        assert pose_deg(scaled)[index] == pytest.approx(degrees, abs=1e-6)


async def test_frames_are_judged_one_by_one_in_order(frame_model: FrameModel, woman: list[MatLike]) -> None:
    man = samples.clip_frames("man.mp4")[samples.MAN_NEUTRAL]
    several = np.hstack([woman[samples.WOMAN_NEUTRAL][:, 260:], man[:, 130:510]])
    frames = [
        samples.jpeg(woman[samples.WOMAN_NEUTRAL]),
        samples.jpeg(samples.clip_frames("nobody.mp4")[0]),
        samples.jpeg(several),
        b"no picture",
        samples.jpeg(woman[samples.WOMAN_SMILES]),
    ]
    asked = [True, True, True, True, False]
    seen = await ModelInProcess(frame_model).observe(frames, passive=asked)
    assert [None if frame is None else frame.faces for frame in seen] == [1, 0, 2, None, 1]
    assert [frame.face.live is not None for frame in seen if frame is not None and frame.face] == [True, False]
    again = await ModelInProcess(frame_model).observe(frames[::-1], passive=asked[::-1])
    assert again == seen[::-1]


def test_large_frames_are_judged_at_a_working_size(woman: list[MatLike]) -> None:
    large = cv2.resize(woman[0], (1920, 1080))
    decoded = decode_bgr(samples.jpeg(large))
    assert decoded is not None
    assert decoded.shape == (540, 960, 3)


def exif_rotated(jpeg: bytes, orientation: int) -> bytes:
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0])
    segment = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + jpeg[2:]


def test_frame_is_turned_upright_as_its_exif_says(woman: list[MatLike]) -> None:
    turned = decode_bgr(exif_rotated(samples.jpeg(woman[0]), 6))
    assert turned is not None
    assert turned.shape == (640, 360, 3)


def with_announced_size(jpeg: bytes, width: int, height: int) -> bytes:
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + height.to_bytes(2) + width.to_bytes(2) + jpeg[frame + 9 :]


def unreadable_files() -> dict[str, bytes]:
    picture = np.full((360, 640, 3), 90, np.uint8)
    jpeg = samples.jpeg(picture)
    return {
        "nothing": b"",
        "text": b"no picture",
        "only the marks": b"\xff\xd8\xff\xff\xd9",
        "cut off": jpeg[: len(jpeg) // 2],
        "png": bytes(cv2.imencode(".png", picture)[1]),
        "webp": bytes(cv2.imencode(".webp", picture)[1]),
        "bmp": bytes(cv2.imencode(".bmp", picture)[1]),
        "gif": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
        "one pixel": samples.jpeg(picture[:1, :1]),
        "a strip": samples.jpeg(picture[:63]),
        "too wide": samples.jpeg(np.zeros((64, 2049, 3), np.uint8)),
        "too high": samples.jpeg(np.zeros((2049, 64, 3), np.uint8)),
        "a bomb of 65535 x 65535": with_announced_size(jpeg, 65535, 65535),
        "zero size": with_announced_size(jpeg, 0, 0),
        "garbage between the marks": b"\xff\xd8\xff" + bytes(range(256)) * 40 + b"\xff\xd9",
    }


@pytest.mark.parametrize("name", unreadable_files())
def test_hostile_file_is_no_frame(name: str) -> None:
    assert decode_bgr(unreadable_files()[name]) is None


def test_grey_picture_is_a_frame() -> None:
    decoded = decode_bgr(samples.jpeg(np.full((360, 640), 90, np.uint8)))
    assert decoded is not None
    assert decoded.shape == (360, 640, 3)


async def test_keyframe_is_made_from_pixels_and_holds_nothing_else(
    frame_model: FrameModel, woman: list[MatLike]
) -> None:
    original = samples.jpeg(woman[samples.WOMAN_NEUTRAL])
    comment = b"hidden in a comment"
    hiding = original[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + original[2:]
    keyframe = await ModelInProcess(frame_model).keyframe(exif_rotated(hiding, 1))
    assert comment not in keyframe
    assert b"Exif" not in keyframe
    made = decode_bgr(keyframe)
    assert made is not None
    assert float(np.abs(made.astype(int) - woman[samples.WOMAN_NEUTRAL].astype(int)).mean()) < 4


# In a worker.


def confinement_of(pid: int) -> tuple[set[str], list[str]]:
    """The seccomp modes of all threads of a process, and what its descriptors are."""
    process = Path(f"/proc/{pid}")
    lines = [line for thread in process.glob("task/*/status") for line in thread.read_text().splitlines()]
    modes = {line for line in lines if line.startswith(("Seccomp:", "NoNewPrivs:"))}
    return modes, [str(link.readlink()) for link in process.glob("fd/*")]


@pytest.fixture
async def workers(model_files: ModelFiles) -> AsyncIterator[FrameWorkers]:
    running = FrameWorkers.of(model_files, processes=1, queue_limit=4, call_timeout_s=20)
    async with running.pool:
        yield running


async def test_worker_says_what_the_model_says_and_keeps_no_network(
    workers: FrameWorkers, frame_model: FrameModel, woman: list[MatLike]
) -> None:
    frames = [samples.jpeg(woman[samples.WOMAN_NEUTRAL]), b"no picture"]
    seen = await workers.observe(frames, passive=[True, False], spoof=[False, True])
    assert seen == await ModelInProcess(frame_model).observe(frames, passive=[True, False], spoof=[False, True])
    assert (await workers.keyframe(frames[0])).startswith(b"\xff\xd8\xff")
    with pytest.raises((WorkerLostError, WorkerCallFailedError)):
        await workers.keyframe(b"no picture")
    (pid,) = workers.pool.worker_pids
    modes, descriptors = confinement_of(pid)
    assert modes == {"Seccomp:\t2", "NoNewPrivs:\t1"}
    assert not [name for name in descriptors if name.startswith("socket:")]


async def test_worker_cannot_reach_a_network_after_it_has_loaded_its_models(
    model_files: ModelFiles, woman: list[MatLike], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    async with WorkerPool("tests.liveness.targets:serve_curious", arguments=model_files.arguments()) as pool:
        result, _ = await pool.call(
            "reach_out", {"passive": [True], "spoof": [True]}, [samples.jpeg(woman[samples.WOMAN_NEUTRAL])]
        )
    assert result == {"faces": [1], "refused": ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"]}


async def test_refuses_to_work_with_a_model_that_changed_after_the_start(
    model_files: ModelFiles, tmp_path: Path
) -> None:
    passive = tmp_path / "passive.onnx"
    passive.write_bytes(model_files.passive_file.read_bytes())
    changed = ModelFiles.at(model_files.landmarker_file, passive, model_files.spoof_file)
    passive.write_bytes(passive.read_bytes() + b"\0")
    with pytest.raises(WorkerLostError):
        async with FrameWorkers.of(changed, processes=1, queue_limit=1, call_timeout_s=1).pool:
            pass
