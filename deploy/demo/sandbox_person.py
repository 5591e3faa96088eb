"""`python -m deploy.demo.sandbox_person LINK`: the sample woman goes through the hosted page in your stead.

She calls the page's own endpoints as a browser does, is filmed as the sample clip shows her, reads her SMS in the
sandbox's outbox, and is sent back. Where that is on loopback she follows, as a browser would; otherwise the address is
printed: it holds the one-time code. In the environment as `BROWSER` she opens what a program would open in a browser:

    export BROWSER="python -m deploy.demo.sandbox_person %s &"

She is the first of services/registry/sandbox_people.json; a link for somebody else ends as an impostor's would.
"""

import argparse
import asyncio
import ipaddress
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from deploy.demo.__main__ import surroundings
from deploy.demo.hosted import confirm
from deploy.demo.narrator import Narrator
from deploy.demo.phone import Phone
from deploy.demo.request_log import RequestLog
from deploy.demo.rest import CallRefusedError
from deploy.local.display import Display
from deploy.local.settings import LocalSettings
from deploy.local.state import READY_FILE, LocalMeshError


def addresses_of(folder: Path) -> dict[str, Any]:
    """Return what the running mesh of a state folder wrote down. Raises LocalMeshError."""
    try:
        found: dict[str, Any] = json.loads((folder / "run" / READY_FILE).read_text())
    except OSError as error:
        raise LocalMeshError(f"no mesh runs in {folder}: start `make run`, or set FINID_STATE to its folder") from error
    return found


async def go(link: str) -> str:
    """Go through the page; return where she was sent."""
    folder = LocalSettings.from_environment().state_folder
    given = surroundings(folder, addresses_of(folder))
    narrator = Narrator(Display(sys.stderr))
    phone = Phone(given.live.phone, given.outbox)
    return await confirm(given.edge, RequestLog(), link, given.camera(), phone, narrator.say)


def is_loopback(address: str) -> bool:
    """Tell whether an address is plain HTTP on this machine."""
    parts = urlsplit(address)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def main() -> int:
    """Return 0 when she was sent back, with success or without."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.sandbox_person", description=__doc__)
    parser.add_argument("link", help="the captureUri of a create call")
    try:
        returned_to = asyncio.run(go(parser.parse_args().link))
        if is_loopback(returned_to):
            httpx.get(returned_to, timeout=10, trust_env=False)
        else:
            print(returned_to)
    except (LocalMeshError, CallRefusedError, httpx.HTTPError, TimeoutError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
