"""What became of an application's webhooks, for its participant: listed, and sent again."""

import datetime
import json

from finid.auth.v1 import auth_pb2 as pb

from mesh import base64url
from mesh.errors import FieldViolation, InvalidArgumentError
from mesh.sealing import Seal, SealBrokenError
from services.auth_gateway.authentication import State
from services.auth_gateway.servicer import answers
from services.auth_gateway.servicer.front import Call
from services.auth_gateway.webhooks import Deliveries, Place, Told, WebhookNotFoundError, event_id

_DEFAULT_PAGE = 20
_COLUMN = "ListWebhookDeliveries"


class WebhookDesk:
    """Proto to domain and back; see proto/finid/auth/v1/auth.proto. `seal` is for page tokens."""

    def __init__(self, deliveries: Deliveries, seal: Seal) -> None:
        self._deliveries = deliveries
        self._seal = seal

    async def page(self, call: Call, request: pb.ListWebhookDeliveriesRequest) -> pb.ListWebhookDeliveriesResponse:
        """Return a page, newest change first."""
        count = request.page_size or _DEFAULT_PAGE
        after = self._place(call.application, request.page_token) if request.page_token else None
        found = await self._deliveries.page(call.application, count + 1, after)
        page, is_last = found[:count], len(found) <= count
        return pb.ListWebhookDeliveriesResponse(
            webhook_deliveries=[_delivery(told) for told in page],
            next_page_token="" if is_last else self._token(call.application, page[-1]),
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

    def _token(self, application: str, last: Told) -> str:
        place = [last.changed_at.isoformat(), last.authentication, last.state.value]
        return base64url.encode(self._seal.seal(json.dumps(place).encode(), column=_COLUMN, row=application))

    def _place(self, application: str, token: str) -> Place:
        try:
            sealed = base64url.decode(token)
            changed_at, name, state = json.loads(self._seal.open(sealed, column=_COLUMN, row=application))
            return Place(datetime.datetime.fromisoformat(changed_at), name, State(state))
        except (ValueError, SealBrokenError) as error:
            rule = FieldViolation("page_token", "must be a next_page_token of this list")
            raise InvalidArgumentError("The request is not valid.", violations=[rule]) from error


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
