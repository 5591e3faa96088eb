"""The person's phone: in the sandbox an SMS is a file in otp's development outbox."""

import asyncio
import json
import re
from pathlib import Path

_CODE = re.compile(r"(?<![0-9])([0-9]{6})(?![0-9])")
_WAIT_S = 10.0
_LOOK_EVERY_S = 0.1


class Phone:
    """A phone whose number the sandbox knows."""

    def __init__(self, number: str, outbox: Path) -> None:
        self.number = number
        self._outbox = outbox
        self._seen = set(self._files())

    def _files(self) -> list[Path]:
        return sorted(self._outbox.glob("*.json"))

    async def next_sms(self) -> str:
        """Wait for the next SMS to this number; return its text. Raises TimeoutError."""
        async with asyncio.timeout(_WAIT_S):
            while True:
                for path in self._files():
                    if path in self._seen:
                        continue
                    self._seen.add(path)
                    message = json.loads(path.read_text(encoding="utf-8"))
                    if message["to"] == self.number:
                        return str(message["text"])
                await asyncio.sleep(_LOOK_EVERY_S)

    async def next_code(self) -> tuple[str, str]:
        """Wait for the next SMS with a code; return its code and its text. Raises TimeoutError."""
        while True:
            text = await self.next_sms()
            # What was signed before is told with no code in it.
            if found := _CODE.findall(text):
                return found[-1], text

    async def next_notice(self) -> str:
        """Wait for the next SMS without a code; return its text. Raises TimeoutError."""
        while True:
            text = await self.next_sms()
            if not _CODE.search(text):
                return text
