"""The development outbox: writes every SMS to a file instead of sending it."""

import asyncio
import json
import os
import time
from pathlib import Path

from mesh.names import new_id
from services.otp.delivery import Accepted, SmsUnavailableError


class Outbox:
    """An SMS provider for development. Whoever may read the folder reads every code; production refuses it."""

    name = "outbox"

    def __init__(self, folder: Path) -> None:
        """Take an existing folder that nobody but its owner may enter. Raises ValueError otherwise."""
        if not folder.is_dir() or folder.stat().st_mode & 0o077:
            raise ValueError("the outbox must be a folder of mode 0700")
        self._folder = folder

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
        """Write {"to", "text", "valid_s"} to a new file, in one step: a reader finds all of it or nothing."""
        reference = new_id()
        try:
            await asyncio.to_thread(self._write, reference, {"to": phone, "text": text, "valid_s": valid_s})
        except OSError as error:
            raise SmsUnavailableError("The outbox cannot be written.", retry_after_s=5.0) from error
        return Accepted(reference)

    async def close(self) -> None:
        """Nothing is held."""

    def _write(self, reference: str, sms: dict[str, str | int]) -> None:
        # The name begins with the time, so that the latest SMS sorts last.
        name = f"{time.time_ns() // 1_000_000:015d}-{reference}.json"
        partial = self._folder / f".{name}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(sms, file, ensure_ascii=False)
        partial.rename(self._folder / name)
