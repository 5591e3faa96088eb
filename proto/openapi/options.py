"""Options and comments of descriptors, read from what protoc hands to a plugin.

Options are read by the descriptors that came with the request, so no generated module need exist yet.
"""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

_HTTP: Final = "[google.api.http]"
_RULES: Final = "[buf.validate.field]"
_PATHS: Final = {"service": 6, "method": 2, "message": 4, "nested": 3, "field": 2, "enum": 5, "value": 2}
_PACKAGE_PATH: Final = (2,)


class Options:
    """The options of methods and fields, as the JSON of their messages with the protos' own names."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._pool = DescriptorPool()
        for file in files:
            self._pool.Add(file)

    def http(self, options: Message) -> dict[str, Any]:
        """A method's google.api.http; empty without one."""
        return dict(self._read("google.protobuf.MethodOptions", options).get(_HTTP, {}))

    def rules(self, options: Message) -> dict[str, Any]:
        """A field's buf.validate.field; empty without one. 64-bit numbers are strings, as in protobuf's JSON."""
        return dict(self._read("google.protobuf.FieldOptions", options).get(_RULES, {}))

    def _read(self, kind: str, options: Message) -> dict[str, Any]:
        known = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(kind))
        read = known.FromString(options.SerializeToString())
        return json_format.MessageToDict(read, preserving_proto_field_name=True, descriptor_pool=self._pool)


class Comments:
    """What stands above each element of a file, as paragraphs on lines of their own."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._by_path = {
            tuple(location.path): _unwrapped(location.leading_comments) for location in file.source_code_info.location
        }

    def package(self) -> str:
        """What the file says of itself."""
        return self._by_path.get(_PACKAGE_PATH, "")

    def at(self, *steps: str | int) -> str:
        """The comment of an element, named by steps like ("service", 0, "method", 2); "" without one."""
        return self._by_path.get(tuple(_PATHS[step] if isinstance(step, str) else step for step in steps), "")


def _unwrapped(comment: str) -> str:
    """Lines that were wrapped become one; an empty line ends a paragraph."""
    paragraphs = [" ".join(part.split()) for part in comment.replace("\n \n", "\n\n").split("\n\n")]
    return "\n\n".join(part for part in paragraphs if part)
