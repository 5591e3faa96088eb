"""What an application may look back on: authentications, signatures and certificates by pages, newest first."""

import asyncio
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from mesh.status import PeerError
from mesh.transaction import Purpose
from services.auth_gateway.authentication import State, Summary
from services.auth_gateway.creation import CertificateNotFoundError
from services.auth_gateway.flow import step_error
from services.auth_gateway.paging import PageTokens
from services.auth_gateway.ports import Signer
from services.auth_gateway.records import Certificate, Operation

_DEFAULT_PAGE = 20
# The signer is asked for each certificate of a page; a page leaves it room for those who sign.
_ASKED_AT_ONCE = 4
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place in a list, newest first, after which a page begins."""

    created_at: datetime.datetime
    name: str


# Before everything that was ever made.
_BEGINNING = Cursor(datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC), "")


class CertificateState(StrEnum):
    """What a certificate can do; names of the public proto."""

    ACTIVE = "ACTIVE"
    WAITING = "WAITING"
    SUSPENDED = "SUSPENDED"
    REVOKED = "REVOKED"
    REPLACED = "REPLACED"
    EXPIRED = "EXPIRED"


# By the signer's word for its key. A key that was destroyed was revoked or expired before: it is over either way.
_STATES = {
    "PENDING": CertificateState.WAITING,
    "ACTIVE": CertificateState.ACTIVE,
    "SUSPENDED": CertificateState.SUSPENDED,
    "REVOKED": CertificateState.REVOKED,
    "DISABLED": CertificateState.REVOKED,  # what it was called before
    "EXPIRED": CertificateState.EXPIRED,
    "DESTROYED": CertificateState.REVOKED,
}


@dataclass(frozen=True, slots=True)
class Owned:
    """A certificate got through an application; `given_up`: its key waited, and never will be activated."""

    certificate: Certificate
    created_at: datetime.datetime
    given_up: bool
    state: CertificateState = CertificateState.ACTIVE


@dataclass(frozen=True, slots=True)
class Asked:
    """An operation and how its authentication stands."""

    operation: Operation
    authentication: Summary
    created_at: datetime.datetime


class Shelf(Protocol):
    """Where lists are read from. Nothing of another application is ever in them."""

    async def authentications(
        self, application: str, state: State | None, purpose: Purpose | None, after: Cursor, limit: int
    ) -> Sequence[Summary]:
        """Return authentications of an application, newest first."""
        ...

    async def signatures(self, application: str, after: Cursor, limit: int) -> Sequence[Asked]:
        """Return signatures that an application asked for, newest first."""
        ...

    async def certificates(self, application: str, after: Cursor, limit: int) -> Sequence[Owned]:
        """Return certificates got through an application whose results it has read, newest first."""
        ...

    async def certificate(self, application: str, name: str) -> Owned | None:
        """Return one of them."""
        ...


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; `next_token` is "" at its end."""

    items: tuple[T, ...]
    next_token: str


class Lists:
    """Reads lists. A `page_size` of 0 takes the default."""

    def __init__(self, shelf: Shelf, signer: Signer, tokens: PageTokens) -> None:
        self._shelf = shelf
        self._signer = signer
        self._tokens = tokens

    async def authentications(
        self, application: str, state: State | None, purpose: Purpose | None, page_size: int, page_token: str
    ) -> Page[Summary]:
        """Return a page of an application's authentications, of one state or purpose if asked for."""
        of = ("authentications", application, state or "", purpose or "")
        size, after = page_size or _DEFAULT_PAGE, self._after(page_token, of)
        found = await self._shelf.authentications(application, state, purpose, after, size + 1)
        return self._page(found, size, of, lambda item: Cursor(item.created_at, item.name))

    async def signatures(self, application: str, page_size: int, page_token: str) -> Page[Asked]:
        """Return a page of an application's signatures."""
        of = ("signatures", application)
        size, after = page_size or _DEFAULT_PAGE, self._after(page_token, of)
        found = await self._shelf.signatures(application, after, size + 1)
        return self._page(found, size, of, lambda item: Cursor(item.created_at, item.operation.name))

    async def certificates(self, application: str, page_size: int, page_token: str) -> Page[Owned]:
        """Return a page of the certificates got through an application, each with its state."""
        of = ("certificates", application)
        size, after = page_size or _DEFAULT_PAGE, self._after(page_token, of)
        found = await self._shelf.certificates(application, after, size + 1)
        page = self._page(found, size, of, lambda item: Cursor(item.created_at, item.certificate.name))
        places = asyncio.Semaphore(_ASKED_AT_ONCE)

        async def judged(item: Owned) -> Owned:
            async with places:
                return await self._judged(item)

        return Page(tuple(await asyncio.gather(*map(judged, page.items))), page.next_token)

    async def certificate(self, application: str, name: str) -> Owned:
        """Return a certificate got through an application, with its state. Raises CertificateNotFoundError."""
        found = await self._shelf.certificate(application, name)
        if found is None:
            raise CertificateNotFoundError("The application has no such certificate.")
        return await self._judged(found)

    async def _judged(self, item: Owned) -> Owned:
        """Say what a certificate can do; who keeps its key is asked unless that is over for good."""
        if item.certificate.replaced:
            state = CertificateState.REPLACED
        elif item.given_up:
            state = CertificateState.REVOKED
        else:
            try:
                state = _STATES[await self._signer.state(item.certificate.credential)]
            except PeerError as error:
                raise step_error(error) from error
        return Owned(item.certificate, item.created_at, item.given_up, state)

    def _after(self, page_token: str, of: tuple[str, ...]) -> Cursor:
        place = self._tokens.read(page_token, *of)
        if not place:
            return _BEGINNING
        microseconds, _, name = place.partition(" ")
        return Cursor(_EPOCH + int(microseconds) * _MICROSECOND, name)

    def _page(self, found: Sequence[T], size: int, of: tuple[str, ...], place_of: Callable[[T], Cursor]) -> Page[T]:
        shown = tuple(found[:size])
        if len(found) <= size:
            return Page(shown, "")
        last = place_of(shown[-1])
        place = f"{(last.created_at - _EPOCH) // _MICROSECOND} {last.name}"
        return Page(shown, self._tokens.write(place, *of))
