"""Makes the pins of the next receipt keys: `python -m mesh.pins_tool --env ENV show PINS`, or `next PINS KEY`.

`next` writes to standard output the pins that a consumer is given before a receipt key is replaced: the new key for
every factor that its service confirms, and the earlier keys of that service with the last second in which what they
sign is believed. `--forget=KID` leaves a key out, for one that was stolen: nothing that it ever signed is believed any
more, a row's key attestation and a participant's evidence included.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from mesh import base64url, pins
from mesh.facts import FACTS_OF
from mesh.pins import Pin, Pins, PinsError, key_id
from mesh.transaction import Env

_DAY_S = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class NextKey:
    """A service's next receipt key, believed from `not_before` to `not_after`; its earlier ones, to `overlap_ends`."""

    issuer: str
    public_key: bytes
    not_before: int
    not_after: int
    overlap_ends: int


def with_next(held: Pins, key: NextKey) -> Pins:
    """Return the pins with a service's next key. Raises PinsError for a service that confirms no factor."""
    factors = [factor for factor, facts in FACTS_OF.items() if facts.issuer == key.issuer]
    if not factors:
        raise PinsError(f"{key.issuer} confirms no factor")
    kid = key_id(key.public_key)
    earlier = tuple(
        replace(pin, not_after=min(pin.not_after, key.overlap_ends))
        if (pin.issuer, pin.env) == (key.issuer, held.env) and pin.kid != kid
        else pin
        for pin in held.pins
        if (pin.issuer, pin.kid) != (key.issuer, kid)
    )
    new = tuple(
        Pin(kid, factor, key.issuer, held.env, key.public_key, key.not_before, key.not_after) for factor in factors
    )
    return Pins(held.env, earlier + new)


def to_json(shown: Pins) -> str:
    """Return the pins as their file has them."""
    return json.dumps(
        {
            "pins": [
                {
                    "kid": pin.kid,
                    "factor": pin.factor.value,
                    "issuer": pin.issuer,
                    "env": pin.env.value,
                    "public_key": base64url.encode(pin.public_key),
                    "not_before": pin.not_before,
                    "not_after": pin.not_after,
                }
                for pin in shown.pins
            ]
        },
        indent=2,
    )


def _public_key(file: Path) -> bytes:
    key = load_pem_public_key(file.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise PinsError(f"{file.name} is not an Ed25519 public key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _shown(pin: Pin, now: int) -> str:
    when = "not yet" if now < pin.not_before else "ended" if now > pin.not_after else "now"
    first, last = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) for at in (pin.not_before, pin.not_after))
    return f"{pin.issuer:12} {pin.factor.value:16} {pin.env.value:10} {first} {last} {when:7} {pin.kid}"


def run(arguments: Sequence[str], now: int) -> str:
    """Return what is to be written. Raises PinsError, ValueError or OSError for what cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m mesh.pins_tool", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--env", choices=[env.value for env in Env], required=True, help="their readers' FINID_ENV")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="list the pins of a file")
    following = commands.add_parser("next", help="the pins with a service's next receipt key")
    for command in (show, following):
        command.add_argument("pins", type=Path)
    following.add_argument("key", type=Path, help="the new public key, PEM")
    following.add_argument("--issuer", required=True, help="the service, for example otp")
    following.add_argument("--days", type=int, default=397, help="how long the new key is believed")
    following.add_argument("--overlap-hours", type=float, default=24.0, help="how long the earlier ones still are")
    following.add_argument(
        "--forget", action="append", default=[], metavar="KID", help="leave this key out (--forget=KID)"
    )
    asked = parser.parse_args(arguments)
    held = pins.parse(asked.pins.read_bytes(), Env(asked.env))
    if asked.command == "show":
        return "\n".join(_shown(pin, now) for pin in held.pins)
    if missing := set(asked.forget) - {pin.kid for pin in held.pins}:
        raise PinsError(f"no pin has the kid {', '.join(sorted(missing))}")
    kept = Pins(held.env, tuple(pin for pin in held.pins if pin.kid not in asked.forget))
    key = NextKey(
        issuer=asked.issuer,
        public_key=_public_key(asked.key),
        not_before=now,
        not_after=now + asked.days * _DAY_S,
        overlap_ends=now + int(asked.overlap_hours * 3600),
    )
    made = to_json(with_next(kept, key))
    pins.parse(made.encode(), held.env)
    return made


def main() -> int:
    """Write the answer, or on standard error why there is none."""
    try:
        print(run(sys.argv[1:], int(time.time())))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
