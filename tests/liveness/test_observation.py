"""A worker may be hijacked: what it says of a frame is believed only within what a face can be."""

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.liveness.flash import Rgb
from services.liveness.observation import Light, NonsenseError, Observation, from_worker
from tests.liveness.faces import NEUTRAL


def said(**changed: Any) -> dict[str, Any]:
    traces = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(NEUTRAL.traces).items()}
    face = (
        asdict(NEUTRAL)
        | {"traces": traces | changed.pop("traces", {})}
        | {"box": list(asdict(NEUTRAL.box).values())}
        | changed
    )
    return {"faces": 1, "face": face}


def test_what_an_honest_worker_says_is_read() -> None:
    assert from_worker(said()) == Observation(1, NEUTRAL)
    assert from_worker({"faces": 0}) == Observation(0, None)
    assert from_worker({"faces": 2}) == Observation(2, None)
    assert from_worker("unreadable") is None
    face = from_worker(said(live=None))
    assert face is not None
    assert face.face is not None
    assert face.face.live is None


@pytest.mark.parametrize("beside", [(120.0, 122.0, 118.0), None])
def test_light_is_read_with_and_without_something_beside_the_face(beside: Rgb | None) -> None:
    lit = from_worker(said(light={"skin": [150, 115, 100], "beside": beside and list(beside)}))
    assert lit is not None
    assert lit.face is not None
    assert lit.face.light == Light((150.0, 115.0, 100.0), beside)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        "readable",
        {"faces": 1},
        {"faces": 3},
        {"faces": -1},
        {"faces": True, "face": said()["face"]},
        {"faces": 0, "face": said()["face"]},
        {"faces": 1, "face": said()["face"], "verdict": "PASS"},
        said(extra=1),
        said(yaw="0"),
        said(yaw=math.nan),
        said(yaw=math.inf),
        said(yaw=181),
        said(smile=1.01),
        said(smile=-0.01),
        said(eyes=True),
        said(live=1.5),
        said(live="1"),
        said(box=[0, 0, 1]),
        said(box=[0, 0, 0, 1]),
        said(box=[0, 0, 1, -1]),
        said(box=[0, 0, 1, 11]),
        said(box={"left": 0}),
        said(luma=10**400),
        said(light=[0, 0, 0]),
        said(light={"skin": [0, 0, 0]}),
        said(light={"skin": None, "beside": None}),
        said(light={"skin": [0, 0], "beside": None}),
        said(light={"skin": [0, 0, 256], "beside": None}),
        said(light={"skin": [0, 0, math.nan], "beside": None}),
        said(light={"skin": [0, 0, 0], "beside": [-1, 0, 0]}),
        said(light={"skin": [0, 0, 0], "beside": "grey"}),
        said(traces={"grid": -1}),
        said(traces={"grid": math.nan}),
        said(traces={"spoof": "0"}),
        said(traces={"sharp": None}),
        said(traces={"tone": [1, 2]}),
        said(traces={"view": [0.0] * 59}),
        said(traces={"view": [21.0] * 60}),
        said(traces={"view": 0}),
        said(traces={"framed": -1}),
        said(traces={"layout": [0.0] * 14}),
        said(traces={"layout": [257.0] * 15}),
        said(traces={"shape": [math.nan] * 90}),
        said(traces={"shape": [0.0, math.nan, *[0.0] * 88]}),
        said(traces={"shape": [math.nan, 10**400, *[0] * 88]}),
        said(traces={"shape": [0, math.nan, 10**400, *[0] * 87]}),
        said(traces={"shape": [*[0.0] * 89, math.inf]}),
        said(traces={"tone": [1, 2, True]}),
        said(traces={"tone": [1, "2", 3]}),
        said(traces={"tone": [1, None, 3]}),
        said(traces={"tone": [1, 2, -0.1]}),
        said(traces={"skin": [0] * 255}),
        said(traces={"skin": [256] * 256}),
        said(traces={"more": 0}),
    ],
    ids=str,
)
def test_anything_else_is_nonsense(value: Any) -> None:
    with pytest.raises(NonsenseError):
        from_worker(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["faces", "face", "box", "x"]), inner),
    max_leaves=12,
)


@given(JSON)
def test_no_json_does_worse_than_being_nonsense(value: Any) -> None:
    try:
        observation = from_worker(json.loads(json.dumps(value)))
    except NonsenseError:
        return
    assert observation is None or observation.faces in {0, 2}
