"""Signs of injection: each is counted when it is there, none of an honest camera's, and a label is never kept."""

from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from services.liveness import injection
from services.liveness.frame_times import DeviceClock
from services.liveness.injection import Declared, Label, Traces, label_of, look, quality, score
from services.liveness.jpeg import read_header

PICTURE = np.full((360, 640, 3), 90, np.uint8)
CAMERA = Declared(Label.OTHER, 1280, 720, 30)
UNSTEADY = DeviceClock(steps_ms=(97, 104, 99, 101, 98, 103, 100, 96, 102, 105) * 3)
ONE_ENCODER = Traces(("00",), (85,), ((640, 360),))


def jpeg(quality: int = 85, size: tuple[int, int] = (640, 360)) -> bytes:
    return bytes(cv2.imencode(".jpg", cv2.resize(PICTURE, size), [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def test_honest_camera_leaves_no_sign() -> None:
    counted = score(CAMERA, ONE_ENCODER, UNSTEADY)
    assert {name for name, value in counted.items() if name.endswith("_ppm") and value} == set()
    assert (counted["encoder_tables"], counted["encoder_quality"], counted["timing_steps"]) == (1, 85, 30)


@pytest.mark.parametrize(
    ("sign", "declared", "traces", "clock"),
    [
        ("label_ppm", replace(CAMERA, label=Label.VIRTUAL), ONE_ENCODER, UNSTEADY),
        ("timing_ppm", CAMERA, ONE_ENCODER, DeviceClock(steps_ms=(100,) * 30)),
        ("rate_ppm", replace(CAMERA, frames_per_s=5), ONE_ENCODER, UNSTEADY),
        ("resolution_ppm", replace(CAMERA, width_px=320, height_px=180), ONE_ENCODER, UNSTEADY),
        ("resolution_ppm", replace(CAMERA, width_px=640, height_px=480), ONE_ENCODER, UNSTEADY),
        ("size_changes_ppm", CAMERA, replace(ONE_ENCODER, sizes_px=((640, 360), (1280, 720))), UNSTEADY),
        ("encoder_changes_ppm", CAMERA, replace(ONE_ENCODER, tables=("00", "01")), UNSTEADY),
    ],
)
def test_each_sign_is_counted_alone(sign: str, declared: Declared, traces: Traces, clock: DeviceClock) -> None:
    counted = score(declared, traces, clock)
    assert counted[sign] == 1_000_000
    assert counted["injection_ppm"] == 1_000_000 // 6
    assert {name for name, value in counted.items() if name.endswith("_ppm") and value} == {sign, "injection_ppm"}


def test_client_that_says_nothing_is_not_suspected_for_it() -> None:
    assert score(Declared(), ONE_ENCODER, UNSTEADY)["injection_ppm"] == 0
    assert score(Declared(), Traces(), DeviceClock())["injection_ppm"] == 0


def test_phone_held_upright_swaps_the_sides() -> None:
    assert score(CAMERA, replace(ONE_ENCODER, sizes_px=((360, 640),)), UNSTEADY)["resolution_ppm"] == 0


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", Label.ABSENT),
        ("  ", Label.ABSENT),
        ("OBS Virtual Camera", Label.VIRTUAL),
        ("ManyCam Video Source", Label.VIRTUAL),
        ("Dummy video device (0x0000)", Label.VIRTUAL),
        ("FaceTime HD Camera", Label.OTHER),
        ("Aigerim\u2019s phone camera", Label.OTHER),
    ],
)
def test_label_is_known_by_its_kind_alone(text: str, label: Label) -> None:
    assert label_of(text) is label


@pytest.mark.parametrize("wanted", [1, 10, 49, 50, 75, 85, 99, 100])
def test_quality_of_a_standard_encoder_is_read_from_its_table(wanted: int) -> None:
    header = read_header(jpeg(wanted))
    read = quality(header)
    # At both ends several qualities have one table.
    assert read == wanted or injection.quality(read_header(jpeg(read))) == read
    assert read > 0


def test_table_of_another_kind_has_no_quality() -> None:
    header = read_header(jpeg())
    assert quality(replace(header, quantisation=(bytes([0]) + bytes(range(1, 65)),))) == 0


def test_frames_of_two_encoders_and_sizes_are_told_apart() -> None:
    one = look(Traces(), [jpeg(), jpeg()])
    assert (len(one.tables), one.qualities, one.sizes_px) == (1, (85,), ((640, 360),))
    other = look(one, [jpeg(60), b"no picture", jpeg(85, (480, 270))])
    assert (len(other.tables), other.qualities, other.sizes_px) == (2, (85, 60), ((640, 360), (480, 270)))


def test_what_is_remembered_is_bounded() -> None:
    traces = look(Traces(), [jpeg(quality) for quality in range(20, 60)])
    assert len(traces.tables) == len(traces.qualities) == 8
    assert set(asdict(CAMERA)) == {"label", "width_px", "height_px", "frames_per_s"}
