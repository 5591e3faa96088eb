"""What a worker lacks to judge a signature, as it travels to the service, which may fetch it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MAX_WANTED: Final = 8
"""Of one document at a time."""


MAX_BEHIND: Final = 8 * 1024 * 1024
"""Bytes of an XML signature that an archive time stamp covers behind the content."""


class Kind(StrEnum):
    """What is behind an address."""

    ISSUER = "ISSUER"
    """The certificate of an authority (RFC 5280, 4.2.2.1)."""
    CRL = "CRL"
    OCSP = "OCSP"
    """Asked by a request (RFC 6960, A.1)."""
    IMPRINT = "IMPRINT"
    """Digests of the detached content and of the request behind it, which an archive time stamp over XML covers."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One piece, and the address that a certificate gives for it; `request` is what an OCSP responder is asked."""

    kind: Kind
    url: str = field(repr=False)
    request: bytes = field(default=b"", repr=False)
