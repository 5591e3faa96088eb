"""Texts that a database can keep: PostgreSQL takes any character but U+0000 (its manual, section 8.3)."""

import functools
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message


def unstorable(message: Message, within: str = "") -> Iterator[str]:
    """Yield the path of every string with U+0000, as in `consents[0].id`."""
    for name, is_message, is_repeated in _holders(message.DESCRIPTOR):
        value: Any = getattr(message, name)
        if is_repeated:
            held = [(f"{within}{name}[{place}]", item) for place, item in enumerate(value)]
        else:
            held = [(within + name, value)] if not is_message or message.HasField(name) else []
        for path, item in held:
            if is_message:
                yield from unstorable(item, f"{path}.")
            elif "\0" in item:
                yield path


@functools.cache  # as many as there are messages in the protos
def _holders(descriptor: Descriptor) -> tuple[tuple[str, bool, bool], ...]:
    """The fields that are strings or hold some: name, whether it is a message, whether it is repeated."""
    return tuple(
        (field.name, field.message_type is not None, field.is_repeated)
        for field in descriptor.fields
        if _holds(field, frozenset())
    )


def _holds(field: FieldDescriptor, above: frozenset[str]) -> bool:
    message = field.message_type
    if message is None:
        return bool(field.type == FieldDescriptor.TYPE_STRING)
    inside = above | {message.full_name}
    return message.full_name not in above and any(_holds(inner, inside) for inner in message.fields)
