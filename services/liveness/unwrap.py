"""The face's skin and shape, free of pose: what a warped picture keeps and a living face changes. Only in the worker.

MediaPipe's landmarker brings a mesh of 468 points with places in a flat map of the face (its canonical face model, in
the model file itself). Looking through the triangles of a frame's points gives that map of the frame: the skin, with
pose and expression taken out of its outline but not out of its shading.
"""

import io
import struct
import zipfile
from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from services.liveness.traces import SHAPE_POINTS, SKIN_PX

_GEOMETRY: Final = "geometry_pipeline_metadata_landmarks.binarypb"
# Field numbers of mediapipe's GeometryPipelineMetadata and Mesh3d (modules/face_geometry/protos).
_CANONICAL_MESH: Final = 1
_VERTICES: Final = 3
_TRIANGLES: Final = 4
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_VERTEX_NUMBERS: Final = 5  # x, y, z, and the place in the flat map
# The middle of the map: eyes, nose, cheeks, mouth. Cheeks' sides are seen from afar or not at all when a head turns.
_LEFT, _TOP, _RIGHT, _BOTTOM = 0.25, 0.30, 0.75, 0.80
_SAMPLES_PX: Final = 3 * SKIN_PX
# Keeps the equations solvable for points that a worker's model makes up; nothing beside a face's width squared.
_STEADY: Final = 1e-6 * np.eye(3)


class MeshError(ValueError):
    """The model file holds no mesh of a face."""


class Unwrap:
    """Unwraps faces; `landmarker` is the content of MediaPipe's face_landmarker.task. Raises MeshError."""

    def __init__(self, landmarker: bytes) -> None:
        vertices, triangles = _mesh(landmarker)
        corners, weights = _looked_through(vertices[:, 3:5], triangles)
        # One of each triangle's three corners after the other.
        self._corners, self._weights = corners.T.copy(), weights.T[..., None].copy()
        flat = vertices[list(SHAPE_POINTS), :2] * (1.0, -1.0)
        self._canonical = (flat - flat.mean(axis=0)) / np.ptp(vertices[:, 0])

    def skin(self, grey: MatLike, points_px: npt.NDArray[np.float64]) -> list[int]:
        """Brightness of SKIN_PX x SKIN_PX places of the face, row by row, 0 to 255; `points_px` are all landmarks."""
        points = points_px[:, :2].astype(np.float32)
        at = sum(points[corner] * weight for corner, weight in zip(self._corners, self._weights, strict=True))
        places = np.asarray(at).reshape(_SAMPLES_PX, _SAMPLES_PX, 2)
        seen = cv2.remap(grey, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        small = cv2.resize(seen, (SKIN_PX, SKIN_PX), interpolation=cv2.INTER_AREA)
        return list(small.tobytes())

    def shape(self, points_px: npt.NDArray[np.float64]) -> list[float]:
        """X and y of SHAPE_POINTS in face widths, laid over the canonical face as well as an affine map can.

        What is left after it is expression, and the depth of a turned head.
        """
        points = points_px[list(SHAPE_POINTS), :2]
        terms = np.hstack([points - points.mean(axis=0), np.ones((len(points), 1))])
        # Least squares by the normal equations: three unknowns, and points that never lie on one line.
        laid = terms @ np.linalg.solve(terms.T @ terms + _STEADY, terms.T @ self._canonical)
        values: list[float] = np.clip(laid, -2, 2).round(4).ravel().tolist()
        return values


def _looked_through(
    places: npt.NDArray[np.float64], triangles: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each sample of the map the three points about it, and their weights (barycentric coordinates)."""
    across, down = (
        np.linspace(least, most, _SAMPLES_PX, endpoint=False) + (most - least) / _SAMPLES_PX / 2
        for least, most in ((_LEFT, _RIGHT), (_TOP, _BOTTOM))
    )
    samples = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    nearest = np.full(len(samples), -np.inf)
    found = np.zeros(len(samples), np.int64)
    weights = np.zeros((len(samples), 3), np.float32)
    for number, (one, two, three) in enumerate(places[triangles]):
        area = float(_cross(two - one, three - one))
        if abs(area) < 1e-12:  # noqa: PLR2004
            continue
        first = _cross(two - samples, three - samples) / area
        second = _cross(three - samples, one - samples) / area
        of_three = np.stack([first, second, 1 - first - second], axis=1)
        inside = of_three.min(axis=1)
        better = inside > nearest
        nearest[better], found[better], weights[better] = inside[better], number, of_three[better]
    return triangles[found], weights


def _cross(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])


def _mesh(landmarker: bytes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The canonical face: vertices x 5 numbers, triangles x 3 indices."""
    try:
        with zipfile.ZipFile(io.BytesIO(landmarker)) as bundle:
            geometry = bundle.read(_GEOMETRY)
        mesh = next(value for number, value in _fields(geometry) if number == _CANONICAL_MESH)
        if not isinstance(mesh, bytes):
            raise MeshError("the mesh is no message")
        read = list(_fields(mesh))
        numbers = [struct.unpack("<f", value)[0] for number, value in read if number == _VERTICES]  # type: ignore[arg-type]
        vertices = np.array(numbers, np.float64).reshape(-1, _VERTEX_NUMBERS)
        triangles = np.array([value for number, value in read if number == _TRIANGLES], np.int64).reshape(-1, 3)
    except (zipfile.BadZipFile, KeyError, StopIteration, IndexError, TypeError, struct.error, ValueError) as error:
        raise MeshError("no mesh of a face in the model file") from error
    if not len(triangles) or triangles.max() >= len(vertices) or max(SHAPE_POINTS) >= len(vertices):
        raise MeshError("the mesh is not whole")
    return vertices, triangles


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a protobuf message: number, and content. Raises IndexError or ValueError for what is none."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
        elif kind in {_BYTES, _FIXED32}:
            length, at = _varint(message, at) if kind == _BYTES else (4, at)
            yield key >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("a field of another kind")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004
            return value, at
