"""What pixels tell of paper and screens. Runs only in the sandboxed worker, on a decoded frame; cheap by design.

Every function takes grey (rows x columns, uint8) or BGR (x 3) and the face's box in pixels: left, top, width, height.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from services.liveness.traces import COSINES

PixelBox = tuple[float, float, float, float]

_FFT_PX = 256
_FFT_MIN_PX = 240
# Below: the face's own structure. Above: the grid of JPEG's blocks and the sensor's own pattern.
_FFT_BAND = (0.10, 0.47)
_FFT_NEIGHBOURS = 9
_JPEG_BLOCK_PX = 8
_OFF_BLOCKS = 0.1
_OFF_BLOCKS_ON_AXIS = 0.2
_AXIS = 0.02
_LOG_STEPS = 20
_EDGE_SIDE_PX = 320
_LINE_TILT = 0.2
_SHARP_FACE_PX = 112
_COARSE_PX = 32
_EXPOSED_LUMA = (120.0, 160.0)


def grid(grey: MatLike, box: PixelBox) -> float | None:
    """The highest peak of the spectrum over the median of its neighbourhood, as a factor; about 3 to 6 for a face.

    A screen's pixels, sampled by the camera's, leave moire: energy at single spatial frequencies, where a face and its
    surround have a spectrum that falls smoothly (Patel et al., Secure Face Unlock, 2016; Garcia and de Queiroz, Face-
    Spoofing 2D-Detection Based on Moire-Pattern Analysis, 2015). Looked for at the frame's own resolution, since
    scaling down removes it, between a tenth and half of a cycle a pixel. Multiples of an eighth are left out: there
    JPEG's blocks peak. Fails: screens finer than the camera resolves or out of focus; strong recompression; takes
    striped clothes, blinds and knitwear for a grid. What a frame of less than 256 pixels on a side lacks is filled up
    with nothing, which leaves the spectrum as it is; None below 240.
    """
    patch = _square(grey, box)
    if patch is None:
        return None
    pixels = patch.astype(np.float32)
    pixels -= cv2.GaussianBlur(pixels, (0, 0), 3)
    rows, columns = pixels.shape
    seen = np.zeros((_FFT_PX, _FFT_PX), np.float32)
    seen[:rows, :columns] = pixels * cv2.createHanningWindow((columns, rows), cv2.CV_32F)
    spectrum = cv2.dft(seen, flags=cv2.DFT_COMPLEX_OUTPUT)
    strength = np.log1p(np.fft.fftshift(cv2.magnitude(spectrum[..., 0], spectrum[..., 1])))
    scaled = np.clip(strength * _LOG_STEPS, 0, 255).astype(np.uint8)
    level = cv2.medianBlur(scaled, _FFT_NEIGHBOURS).astype(np.float32) / _LOG_STEPS
    above = (strength - level)[_BAND]
    return float(min(math.exp(float(above.max())), 1000.0))


def sides(grey: MatLike, box: PixelBox) -> tuple[float, float]:
    """The third longest of the straight edges left, right, above and below the face, 0 when not three; and the shortest
    side of a frame around it, 0 when not whole. Both in face heights.

    A screen's bezel and a photo's border are straight, nearly upright and level, and surround the face. Three sides,
    because a hand or the picture's edge hides one; but a window, a picture on the wall or a door behind a person has
    three as well, whose own body hides the fourth. A whole frame has all four; the edges above and below pass the
    face's middle, those beside it reach below that. Fails: a screen or photo that fills the picture, or is seen in
    part, has none; takes a window whose sill shows between shoulders and table for one.
    """
    scale = _EDGE_SIDE_PX / max(grey.shape)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left, top, width, height = (value * scale for value in box)
    middle = (left + width / 2, top + height / 2)
    found = cv2.HoughLinesP(cv2.Canny(small, 40, 120), 1, math.pi / 180, 30, minLineLength=0.4 * height, maxLineGap=6)
    third = sorted(_longest(found, (left, top, width, height)))[1]
    if not third:
        return 0.0, 0.0
    found = cv2.HoughLinesP(cv2.Canny(small, 30, 90), 1, math.pi / 180, 30, minLineLength=0.6 * height, maxLineGap=15)
    around = _longest(found, (left, top, width, height), reaching=middle)
    return third, min(around)


def _longest(
    found: MatLike | None, box: PixelBox, reaching: tuple[float, float] | None = None
) -> tuple[float, float, float, float]:
    """The longest edge left, right, above and below the face, in its heights.

    With `reaching`, level edges count when they pass this place's column, upright ones when they reach below its row.
    """
    left, top, width, height = box
    longest = [0.0, 0.0, 0.0, 0.0]
    for x1, y1, x2, y2 in [] if found is None else found.reshape(-1, 4).astype(float):
        across, down = abs(x2 - x1), abs(y2 - y1)
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        if across <= _LINE_TILT * down:
            side = 0 if x < left else 1 if x > left + width else None
            counts = reaching is None or max(y1, y2) >= reaching[1]
        elif down <= _LINE_TILT * across:
            side = 2 if y < top else 3 if y > top + height else None
            counts = reaching is None or min(x1, x2) <= reaching[0] <= max(x1, x2)
        else:
            continue
        if side is not None and counts:
            longest[side] = max(longest[side], math.hypot(across, down) / height)
    return longest[0], longest[1], longest[2], longest[3]


def exposed(picture_bgr: MatLike, face_luma: float) -> MatLike:
    """The picture made brighter or darker when its face of mean brightness `face_luma` is outside _EXPOSED_LUMA, so
    that the face is as bright as the nearer limit.

    By a factor: less light is less of every value, before a camera's tone curve (a power) and after it. Limits were
    chosen on photos of four people, the man's sample clip, and darker and brighter copies of them. Fails: what has
    clipped to black or white stays so.
    """
    aimed_at = min(max(face_luma, _EXPOSED_LUMA[0]), _EXPOSED_LUMA[1])
    if aimed_at == face_luma:
        return picture_bgr
    return cv2.convertScaleAbs(picture_bgr, alpha=aimed_at / max(face_luma, 1.0))


def layout(small_bgr: MatLike) -> list[float]:
    """Where a coarse frame is bright and where dark: its lowest cosine coefficients but the mean, in grey levels.

    The beginning of a perceptual hash (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
    2010), kept as numbers: a sensor's noise and a new compression change their distance by less than 0.1, a face that
    has moved by a pixel by more.
    """
    grey = cv2.cvtColor(small_bgr.astype(np.float32), cv2.COLOR_BGR2GRAY)
    lowest = cv2.dct(grey)[:COSINES, :COSINES].ravel()[1:] / _COARSE_PX
    return [round(float(value), 2) for value in lowest]


def sharpness(grey: MatLike, box: PixelBox) -> tuple[float, float]:
    """Mean strength of edges of the face at a fixed size, and the standard deviation of its brightness; grey levels.

    In the manner of ISO/IEC 29794-5's sharpness and dynamic range, without its trained parts. A blurred face has few
    edges, and so has a smooth one: only frames of one person are compared.
    """
    face = cv2.resize(within(grey, box), (_SHARP_FACE_PX, _SHARP_FACE_PX), interpolation=cv2.INTER_AREA)
    edges = cv2.Laplacian(face, cv2.CV_16S)
    return float(np.abs(edges).mean()), float(face.std())


def coarse(frame_bgr: MatLike) -> MatLike:
    """The frame as 32 x 32 means, BGR."""
    height, width = frame_bgr.shape[:2]
    # By a whole number first, which OpenCV does ten times as fast as by a fraction.
    quarter = cv2.resize(frame_bgr, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return cv2.resize(quarter, (_COARSE_PX, _COARSE_PX), interpolation=cv2.INTER_AREA)


def tone(small_bgr: MatLike, box: tuple[float, float, float, float]) -> tuple[float, float, float]:
    """Mean blue, green and red of a coarse frame without the face's rectangle: `box` is in shares of the frame."""
    around = np.ones((_COARSE_PX, _COARSE_PX), np.uint8)
    left, top = (max(0, int(_COARSE_PX * value)) for value in box[:2])
    right, bottom = (math.ceil(_COARSE_PX * (box[side] + box[side + 2])) for side in (0, 1))
    around[top : max(bottom, 0), left : max(right, 0)] = 0
    if not around.any():
        around[:] = 1
    blue, green, red, _ = cv2.mean(small_bgr, around)
    return blue, green, red


def _band() -> npt.NDArray[np.bool_]:
    cycles = np.abs(np.fft.fftshift(np.fft.fftfreq(_FFT_PX)))
    down, across = np.meshgrid(cycles, cycles, indexing="ij")
    radius = np.hypot(down, across)
    band = (radius >= _FFT_BAND[0]) & (np.maximum(down, across) <= _FFT_BAND[1])
    # JPEG's blocks peak on the axes' multiples of an eighth, and so does whatever scaled a JPEG, smeared along the
    # axes.
    blocks = [np.abs(axis * _JPEG_BLOCK_PX - np.round(axis * _JPEG_BLOCK_PX)) < _OFF_BLOCKS for axis in (down, across)]
    return np.asarray(
        band & ~(blocks[0] & blocks[1]) & (down > _AXIS) & (across > _AXIS) | band & _on_axis(down, across)
    )


def _on_axis(down: npt.NDArray[np.float64], across: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    along = np.maximum(down, across)
    off_blocks = np.abs(along * _JPEG_BLOCK_PX - np.round(along * _JPEG_BLOCK_PX)) >= _OFF_BLOCKS_ON_AXIS
    return np.asarray((np.minimum(down, across) <= _AXIS) & off_blocks)


_BAND = _band()


def _square(grey: MatLike, box: PixelBox) -> MatLike | None:
    """256 x 256 pixels about the face's middle, or as many as there are, or None when these are too few."""
    rows, columns = (min(side, _FFT_PX) for side in grey.shape)
    if min(rows, columns) < _FFT_MIN_PX:
        return None
    x = int(min(max(box[0] + box[2] / 2 - columns / 2, 0), grey.shape[1] - columns))
    y = int(min(max(box[1] + box[3] / 2 - rows / 2, 0), grey.shape[0] - rows))
    return grey[y : y + rows, x : x + columns]


def within(picture: MatLike, box: PixelBox) -> MatLike:
    """What of the box lies in the picture, at least one pixel."""
    height, width = picture.shape[:2]
    left, top = min(max(0, int(box[0])), width - 1), min(max(0, int(box[1])), height - 1)
    right, bottom = min(width, int(box[0] + box[2])), min(height, int(box[1] + box[3]))
    return picture[top : max(bottom, top + 1), left : max(right, left + 1)]
