"""The sandbox's reference photos, cut from the sample people as a state source would hold them."""

from pathlib import Path

import cv2
from cv2.typing import MatLike

from deploy.local.assets.manifest import AssetError, Portrait

JPEG_QUALITY = 92


def photo_jpeg(portrait: Portrait, folder: Path) -> bytes:
    """The photo of `portrait` as JPEG; `folder` holds its source. Raises AssetError when the source is not readable."""
    source = folder / portrait.source
    picture_bgr = cv2.imread(str(source)) if portrait.frame is None else _frame_bgr(source, portrait.frame)
    if picture_bgr is None:
        raise AssetError(f"{portrait.source}: not readable as a picture")
    left, top, width, height = portrait.crop
    cut = picture_bgr[top : top + height, left : left + width]
    if cut.shape[:2] != (height, width):
        raise AssetError(
            f"{portrait.source}: {portrait.crop} reaches beyond {picture_bgr.shape[1]}x{picture_bgr.shape[0]}"
        )
    return bytes(cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def _frame_bgr(clip: Path, number: int) -> MatLike | None:
    """Frame `number` of a clip; read one after the other, because seeking lands on key frames only."""
    capture = cv2.VideoCapture(str(clip))
    try:
        frame: MatLike | None = None
        for _ in range(number + 1):
            read, frame = capture.read()
            if not read:
                return None
        return frame
    finally:
        capture.release()
