"""CKA_UNWRAP_TEMPLATE: what a key-encryption key demands of everything it unwraps (PKCS#11 2.40, 4.9).

With {CKA_SENSITIVE: true} in it, the token itself refuses to unwrap a subject key in such a way that its value could be
read. python-pkcs11 can neither set nor read this attribute, whose value is attributes again, so the module is called
directly. It can only be set when a key is made; SoftHSM 2.6.1 takes it and obeys it.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pkcs11 import Attribute, Mechanism

from mesh.hsm.errors import KekTemplateRefusedError, TokenUnavailableError
from mesh.hsm.module import FunctionList

_CKR_OK = 0x00
# A module that does not know the attribute, or not in this place (PKCS#11 2.40, 5.1.6).
_CKR_REFUSED = {0x10: "ATTRIBUTE_READ_ONLY", 0x12: "ATTRIBUTE_TYPE_INVALID", 0x13: "ATTRIBUTE_VALUE_INVALID"} | {
    0xD0: "TEMPLATE_INCOMPLETE",
    0xD1: "TEMPLATE_INCONSISTENT",
}
_CKR_ATTRIBUTE_TYPE_INVALID = 0x12
_UNAVAILABLE = ctypes.c_ulong(-1).value
_MAX_BYTES = 4096
_AES_256_BYTES = 32
_Value: TypeAlias = "ctypes.c_ubyte | ctypes.c_ulong | ctypes.Array[Any]"
DEMANDED: Mapping[Attribute, bool] = {Attribute.SENSITIVE: True}


class _Attribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_ = (("type", ctypes.c_ulong), ("value", ctypes.c_void_p), ("length", ctypes.c_ulong))


class _Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = (("mechanism", ctypes.c_ulong), ("parameter", ctypes.c_void_p), ("length", ctypes.c_ulong))


def make_kek(functions: FunctionList, session: Any, label: str, *, stored: bool) -> int:
    """Make an AES-256 key that only wraps and unwraps, what it unwraps being sensitive; return its handle.

    Raises:
        KekTemplateRefusedError: the module does not take the attribute.
        TokenUnavailableError: anything else the module answers.
    """
    # Both lists own the values to whose addresses the templates point.
    demanded = [(kind, _flag(value)) for kind, value in DEMANDED.items()]
    inner = _attributes(demanded)
    name = label.encode("ascii")
    wanted: list[tuple[Attribute, _Value]] = [
        (Attribute.TOKEN, _flag(stored)),
        (Attribute.PRIVATE, _flag(True)),
        (Attribute.SENSITIVE, _flag(True)),
        (Attribute.EXTRACTABLE, _flag(False)),
        (Attribute.WRAP, _flag(True)),
        (Attribute.UNWRAP, _flag(True)),
        (Attribute.ENCRYPT, _flag(False)),
        (Attribute.DECRYPT, _flag(False)),
        (Attribute.LABEL, ctypes.create_string_buffer(name, len(name))),
        (Attribute.ID, ctypes.create_string_buffer(name, len(name))),
        (Attribute.VALUE_LEN, ctypes.c_ulong(_AES_256_BYTES)),
        (Attribute.UNWRAP_TEMPLATE, inner),
    ]
    template = _attributes(wanted)
    mechanism = _Mechanism(int(Mechanism.AES_KEY_GEN), None, 0)
    handle = ctypes.c_ulong()
    answer = functions.generate_key(
        session.handle, ctypes.addressof(mechanism), ctypes.addressof(template), len(template), ctypes.addressof(handle)
    )
    if answer in _CKR_REFUSED:
        raise KekTemplateRefusedError(
            f"the module takes no CKA_UNWRAP_TEMPLATE ({_CKR_REFUSED[answer]}): make the key with its maker's tool"
        )
    if answer != _CKR_OK:
        raise TokenUnavailableError(f"the token makes no key (0x{answer:x})")
    return handle.value


def forces_sensitive(functions: FunctionList, session: Any, handle: int) -> bool:
    """Tell whether whatever a key unwraps must be sensitive. Raises TokenUnavailableError."""
    count = _read(functions, session, handle, _Attribute(int(Attribute.UNWRAP_TEMPLATE), None, 0))
    if count is None:
        return False
    inner = (_Attribute * (count // ctypes.sizeof(_Attribute)))()
    outer = _Attribute(int(Attribute.UNWRAP_TEMPLATE), ctypes.addressof(inner), ctypes.sizeof(inner))
    # Once for the types and lengths of what is in it, once for the values (PKCS#11 2.40, 5.7, C_GetAttributeValue).
    if _read(functions, session, handle, outer) is None:
        return False
    values = [ctypes.create_string_buffer(min(item.length, _MAX_BYTES)) for item in inner]
    for item, value in zip(inner, values, strict=True):
        item.value = ctypes.addressof(value)
    _read(functions, session, handle, outer)
    found = {item.type: value.raw for item, value in zip(inner, values, strict=True)}
    return found.get(int(Attribute.SENSITIVE)) == b"\x01"


def _read(functions: FunctionList, session: Any, handle: int, wanted: _Attribute) -> int | None:
    """Ask for one attribute; return the length of its value, None when the key has none."""
    answer = functions.get_attribute_value(session.handle, handle, ctypes.addressof(wanted), 1)
    if answer == _CKR_ATTRIBUTE_TYPE_INVALID:
        return None
    if answer != _CKR_OK:
        raise TokenUnavailableError(f"the token does not tell a key's attributes (0x{answer:x})")
    length: int = wanted.length
    return None if length in (0, _UNAVAILABLE) or length > _MAX_BYTES else length


def _attributes(items: Sequence[tuple[Attribute, "_Value"]]) -> "ctypes.Array[_Attribute]":
    """Return a template that points to the items' values: it is good as long as they live."""
    made = (_Attribute * len(items))()
    for slot, (kind, value) in zip(made, items, strict=True):
        slot.type, slot.value, slot.length = int(kind), ctypes.addressof(value), ctypes.sizeof(value)
    return made


def _flag(value: bool) -> ctypes.c_ubyte:
    """CK_BBOOL."""
    return ctypes.c_ubyte(value)
