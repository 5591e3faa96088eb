"""One call through three doors: gRPC, REST and gRPC-Web, each as its own clients speak it."""

import base64
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from google.api import annotations_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from deploy.envoy.strict_json import VARIABLE
from mesh.status import DETAILS_KEY
from tests.mesh_process import RunningMesh

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a door says: the code's name; of an error, its reason, text and broken rules; else the message."""

    code: str
    reason: str = ""
    text: str = ""
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s: float = 0.0
    message: Message | None = None


class Doors:
    """The three doors of a running mesh."""

    def __init__(self, channel: grpc.Channel, client: httpx.Client) -> None:
        self._channel = channel
        self._client = client

    def answers(self, method: MethodDescriptor, request: Message, token: str | None) -> dict[str, Answer]:
        """The answers of all doors to one request."""
        return {
            "gRPC": self._grpc(method, request, token),
            "REST": self._rest(method, request, token),
            "gRPC-Web": self._grpc_web(method, request, token),
        }

    def _grpc(self, method: MethodDescriptor, request: Message, token: str | None) -> Answer:
        call: Any = self._channel.unary_unary(
            _path(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_made(method).FromString,
        )
        try:
            return Answer("OK", message=call(request, timeout=_TIMEOUT_S, metadata=tuple(_bearer(token).items())))
        except grpc.RpcError as error:
            trailers: dict[str, Any] = {item.key: item.value for item in error.trailing_metadata() or ()}
            return _refusal(status_pb2.Status.FromString(trailers[DETAILS_KEY]))

    def _rest(self, method: MethodDescriptor, request: Message, token: str | None) -> Answer:
        verb, path, left = _rest_call(method, request)
        sent = {"params": _as_query(left)} if verb == "GET" else {"json": left}
        answer = self._client.request(verb, path, headers=_bearer(token), **sent)
        if answer.is_error:
            return _refusal(json_format.ParseDict(answer.json(), status_pb2.Status()))
        if method.output_type.full_name == "google.api.HttpBody":
            body = {"contentType": answer.headers["content-type"], "data": base64.b64encode(answer.content).decode()}
            return Answer("OK", message=json_format.ParseDict(body, _made(method)()))
        return Answer("OK", message=json_format.ParseDict(answer.json(), _made(method)()))

    def _grpc_web(self, method: MethodDescriptor, request: Message, token: str | None) -> Answer:
        sent = request.SerializeToString()
        headers = _bearer(token) | {"content-type": "application/grpc-web+proto", "grpc-timeout": "30S"}
        answer = self._client.post(_path(method), content=b"\0" + len(sent).to_bytes(4) + sent, headers=headers)
        trailers = {name.lower(): value for name, value in answer.headers.items()}
        message = _made(method)()
        # What Envoy refuses itself has its status in the headers, as an answer without messages may have.
        framed = answer.headers["content-type"].startswith("application/grpc-web")
        for flags, data in _frames(answer.content if framed else b""):
            if flags & 0x80:
                lines = (line.partition(":") for line in data.decode().split("\r\n") if line)
                trailers |= {name.strip().lower(): value.strip() for name, _, value in lines}
            else:
                message.MergeFromString(data)
        if trailers["grpc-status"] == "0":
            return Answer("OK", message=message)
        details = trailers[DETAILS_KEY]
        return _refusal(status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4))))


@contextmanager
def doors_of(mesh: RunningMesh) -> Iterator[Doors]:
    """Open all three."""
    root = grpc.ssl_channel_credentials(mesh.web_root_file.read_bytes())
    target = urllib.parse.urlsplit(mesh.web_url).netloc
    with grpc.secure_channel(target, root) as channel, mesh.client() as client:
        yield Doors(channel, client)


def _bearer(token: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token is not None else {}


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _made(method: MethodDescriptor) -> type[Message]:
    return message_factory.GetMessageClass(method.output_type)


def _rest_call(method: MethodDescriptor, request: Message) -> tuple[str, str, dict[str, Any]]:
    """Verb, path and what is left for query or body."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    left: dict[str, Any] = json_format.MessageToDict(request)
    path = getattr(rule, verb)
    for variable in VARIABLE.finditer(path):
        field = request.DESCRIPTOR.fields_by_name[variable[0][1:-1].partition("=")[0]]
        left.pop(field.json_name, None)
        path = path.replace(variable[0], urllib.parse.quote(str(getattr(request, field.name)), safe="/"))
    return verb.upper(), path, left


def _as_query(left: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in left.items()}


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length = int.from_bytes(data[1:5])
        yield data[0], data[5 : 5 + length]
        data = data[5 + length :]


def _refusal(status: status_pb2.Status) -> Answer:
    info, fields, wait = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for known in (info, fields, wait):
            detail.Unpack(known)
    return Answer(
        code_pb2.Code.Name(status.code),
        info.reason,
        status.message,
        tuple((item.field, item.description) for item in fields.field_violations),
        wait.retry_delay.seconds + wait.retry_delay.nanos / 1e9,
    )
