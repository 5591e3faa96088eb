"""Which provider an SMS goes to: by destination, in order, past those that fail; never to two of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mesh import telemetry
from mesh.errors import FinIdError
from services.otp.breaker import Breaker, BreakerLimits, Circuit
from services.otp.delivery import (
    Accepted,
    DeliveryUnknownError,
    PhoneUnreachableError,
    SmsProvider,
    SmsUnavailableError,
)

_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class _Gate:
    provider: SmsProvider
    breaker: Breaker


class Routes:
    """An SMS provider made of several.

    Only what a provider certainly did not take goes to the next one. What it may have taken goes to nobody: two
    providers would be two SMS.
    """

    def __init__(
        self,
        routes: Mapping[str, Sequence[SmsProvider]],
        limits: BreakerLimits,
        clock: Callable[[], float],
    ) -> None:
        """Take, for each beginning of E.164 numbers, its providers in order. The longest beginning counts.

        Raises ValueError for a route without providers, and for two providers of one name.
        """
        gates: dict[str, _Gate] = {}
        for providers in routes.values():
            for provider in providers:
                gate = gates.setdefault(provider.name, _Gate(provider, Breaker(limits, clock)))
                if gate.provider is not provider:
                    raise ValueError(f"two providers are called {provider.name}")
        if not all(routes.values()):
            raise ValueError("a route needs a provider")
        self.name = next(iter(gates)) if len(gates) == 1 else "routes"
        self._gates = tuple(gates.values())
        self._routes = {
            prefix: tuple(gates[provider.name] for provider in routes[prefix])
            for prefix in sorted(routes, key=len, reverse=True)
        }

    def covers(self, prefix: str) -> bool:
        """Tell whether every number that begins so has a route."""
        return any(prefix.startswith(known) for known in self._routes)

    def circuits(self) -> dict[str, Circuit]:
        """Return each provider's health, by name."""
        return {gate.provider.name: gate.breaker.circuit for gate in self._gates}

    async def send(self, phone: str, text: str, valid_s: int, name: str = "") -> Accepted:
        """Hand the SMS to the first provider of its route that takes it. See `delivery.SmsProvider`."""
        gates = self._gates_of(phone)
        refusal: FinIdError | None = None
        for gate in gates:
            if not gate.breaker.admits():
                continue
            try:
                return await self._send(gate, phone, text, valid_s, name)
            except PhoneUnreachableError as error:
                # Another provider may reach it: some are not permitted to send to some networks.
                refusal = error
            except SmsUnavailableError as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        wait_s = min((gate.breaker.retry_after_s for gate in gates), default=0)
        raise SmsUnavailableError("No SMS provider is available.", retry_after_s=wait_s or _RETRY_AFTER_S)

    def _gates_of(self, phone: str) -> Sequence[_Gate]:
        return next((gates for prefix, gates in self._routes.items() if phone.startswith(prefix)), ())

    async def _send(self, gate: _Gate, phone: str, text: str, valid_s: int, name: str) -> Accepted:
        before = gate.breaker.circuit
        try:
            accepted = await gate.provider.send(phone, text, valid_s, name)
        except PhoneUnreachableError:
            gate.breaker.succeeded()
            raise
        except SmsUnavailableError:
            gate.breaker.failed()
            raise
        except DeliveryUnknownError as error:
            gate.breaker.failed()
            error.provider = gate.provider.name
            raise
        except BaseException:
            gate.breaker.let_go()
            raise
        else:
            gate.breaker.succeeded()
            return replace(accepted, provider=gate.provider.name)
        finally:
            if (after := gate.breaker.circuit) is not before:
                telemetry.logger().warning("sms provider circuit", provider=gate.provider.name, state=after.value)

    async def close(self) -> None:
        """Close every provider."""
        for gate in self._gates:
            await gate.provider.close()
