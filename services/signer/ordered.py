"""What the Operator or the authority orders: a key ends, pauses or wakes without its person, on a signed order alone.

The signer obeys an order by itself, from the order's own signature; it trusts whoever carries it with nothing. A key
goes first, its certificate after it; to RESUME, the certificate first. `services.signer.admin` says how the two go
together.
"""

from collections.abc import Callable
from datetime import datetime

from mesh.order import Kind, Order, Orders
from services.signer.credential import (
    CredentialHeldError,
    CredentialNotActiveError,
    CredentialNotSuspendedError,
    Credentials,
    State,
    existing,
)


class OrderedChanges:
    """Changes credentials on orders of pinned keys."""

    def __init__(self, *, credentials: Credentials, orders: Orders, now: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._orders = orders
        self._now = now

    async def obey(self, token: str) -> datetime:
        """Do what a signed order says; return since when; the same order again returns the first answer.

        REVOKE changes nothing where the key is over already, and holds for a certificate that no credential has yet: it
        is never activated. Raises OrderRefusedError; CredentialNotFoundError, CredentialNotActiveError,
        CredentialNotSuspendedError, CredentialHeldError; DependencyUnavailableError.
        """
        now = self._now()
        order = self._orders.read(token)
        earlier = await self._credentials.obeyed(order.sha256)
        if earlier is not None:
            return earlier
        self._orders.require_current(order, now)
        if await self._credentials.obey(order, now):
            return now
        # Another call with the same order came first, a moment ago; or there is nothing to pause or to wake.
        earlier = await self._credentials.obeyed(order.sha256)
        if earlier is not None:
            return earlier
        await self._refuse(order, now)
        raise AssertionError("an order is obeyed or refused")

    async def _refuse(self, order: Order, now: datetime) -> None:
        credential = existing(await self._credentials.of_certificate(order.claims.certificate_sha256))
        state = credential.state_at(now)
        if state is State.SUSPENDED:
            raise CredentialHeldError("The credential is suspended, and whoever did that ends it.")
        if order.claims.kind is Kind.RESUME:
            raise CredentialNotSuspendedError("The credential is not suspended.")
        raise CredentialNotActiveError("The credential is not active.")
