"""What would be sent, without sending it."""

from typing import Any

import click
from google.protobuf import json_format

from finid_client.calls import Beginning, Call
from finid_client.command import terminal
from finid_client.command.profile import Settings

_SHOWN_BYTES = 48


def show(settings: Settings, call: Call[Any] | Beginning[Any]) -> None:
    """Print a call as JSON; long contents by their length only."""
    sent = call.call if isinstance(call, Beginning) else call
    settings.require("address")
    body = json_format.MessageToDict(sent.request)
    terminal.print_json({"address": settings.address, "method": sent.method, "request": _shortened(body)})
    click.echo("nothing was sent", err=True)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if isinstance(value, str) and len(value) > _SHOWN_BYTES:
        return f"{value[:_SHOWN_BYTES]}… ({len(value)} characters)"
    return value
