"""What became of an application's webhooks, for its participant: listed, and sent again."""

import datetime

from finid.auth.v1 import auth_pb2 as pb

from services.auth_gateway.authentication import State
from services.auth_gateway.paging import PageTokens
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.front import Call
from services.auth_gateway.webhooks import Deliveries, Place, Told, WebhookNotFoundError, event_id

_DEFAULT_PAGE = 20


class WebhookDesk:
    """Proto to domain and back; see proto/finid/auth/v1/auth.proto."""

    def __init__(self, deliveries: Deliveries, tokens: PageTokens) -> None:
        self._deliveries = deliveries
        self._tokens = tokens

    async def page(self, call: Call, request: pb.ListWebhookDeliveriesRequest) -> pb.ListWebhookDeliveriesResponse:
        """Return a page, newest change first."""
        count = request.page_size or _DEFAULT_PAGE
        listed = ("webhook-deliveries", call.application)
        after = _place(self._tokens.read(request.page_token, *listed))
        found = await self._deliveries.page(call.application, count + 1, after)
        page, is_last = found[:count], len(found) <= count
        return pb.ListWebhookDeliveriesResponse(
            webhook_deliveries=[_delivery(told) for told in page],
            next_page_token="" if is_last else self._tokens.write(_written(page[-1]), *listed),
        )

    async def again(self, call: Call, request: pb.RedeliverWebhookRequest) -> pb.WebhookDelivery:
        """Have a webhook sent again."""
        call.resource = request.name
        id_, _, state = request.name.removeprefix("webhookDeliveries/").partition("-")
        name = f"authentications/{id_}"
        if state in State.__members__ and await self._deliveries.again(call.application, name, State(state)):
            told = await self._deliveries.told(call.application, name, State(state))
            if told is not None:
                return _delivery(told)
        raise WebhookNotFoundError("There is no such webhook.")


def _written(last: Told) -> str:
    return f"{last.changed_at.isoformat()} {last.authentication} {last.state}"


def _place(written: str) -> Place | None:
    if not written:
        return None
    changed_at, name, state = written.split(" ")
    return Place(datetime.datetime.fromisoformat(changed_at), name, State(state))


def _delivery(told: Told) -> pb.WebhookDelivery:
    return pb.WebhookDelivery(
        name=f"webhookDeliveries/{event_id(told.authentication, told.state)}",
        authentication=told.authentication,
        authentication_state=pb.AuthenticationState.Value(f"AUTHENTICATION_STATE_{told.state}"),
        state=pb.WebhookDeliveryState.Value(f"WEBHOOK_DELIVERY_STATE_{told.delivery}"),
        change_time=answers.timestamp(told.changed_at),
        attempts=told.attempts,
        last_attempt_time=answers.timestamp(told.attempted_at),
        last_status_code=told.status_code,
        last_problem=told.problem,
        next_attempt_time=answers.timestamp(told.next_attempt_at),
        delivered_time=answers.timestamp(told.delivered_at),
    )
