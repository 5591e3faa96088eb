"""What a token must be able to do for wrapped subject keys, tried with keys that live in a session only."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pkcs11.exceptions as p11
from pkcs11 import Mechanism, ObjectClass
from pkcs11.types import Session

from mesh.hsm import unwrap_template
from mesh.hsm.curves import LEAVES_WRAPPED, generate_ec, unwrap_ec
from mesh.hsm.errors import KekTemplateRefusedError, TokenUnavailableError
from mesh.hsm.keys import KeyAlgorithm
from mesh.hsm.module import FunctionList

_MECHANISMS = (Mechanism.AES_KEY_GEN, Mechanism.AES_KEY_WRAP_PAD, Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA)
_LABEL = "capabilities"


def lacking(functions: FunctionList, session: Session) -> tuple[str, ...]:
    """Return what the token lacks, each in a few words; nothing stays in it. Raises PKCS11Error, TokenUnavailableError.

    A mechanism in a list is a promise; so a key is made, wrapped, unwrapped and used as a subject key is.
    """
    known = session.token.slot.get_mechanisms()
    missing = [f"CKM_{item.name}" for item in _MECHANISMS if item not in known]
    if missing:
        return tuple(missing)
    try:
        unwrap_template.make_kek(functions, session, _LABEL, stored=False)
    except (KekTemplateRefusedError, TokenUnavailableError) as error:
        return (f"CKA_UNWRAP_TEMPLATE: {error}",)
    kek = session.get_key(object_class=ObjectClass.SECRET_KEY, label=_LABEL)
    try:
        return tuple(
            f"{algorithm.value}: {fault}"
            for algorithm in (KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384)
            for fault in _faults_of(session, kek, algorithm)
        )
    finally:
        kek.destroy()


def _faults_of(session: Session, kek: Any, algorithm: KeyAlgorithm) -> Iterator[str]:
    _, made = generate_ec(session, algorithm, label=None, private=LEAVES_WRAPPED)
    try:
        wrapped = kek.wrap_key(made, mechanism=Mechanism.AES_KEY_WRAP_PAD)
    except p11.PKCS11Error as error:
        yield f"is not wrapped ({type(error).__name__})"
        return
    finally:
        made.destroy()
    for extractable, use in ((False, "to sign"), (True, "to be wrapped by another KEK")):
        try:
            opened = unwrap_ec(kek, wrapped, extractable=extractable)
        except p11.PKCS11Error as error:
            yield f"is not unwrapped {use} ({type(error).__name__})"
            continue
        try:
            opened.sign(bytes(algorithm.digest.digest_size), mechanism=Mechanism.ECDSA)
            if extractable:
                kek.wrap_key(opened, mechanism=Mechanism.AES_KEY_WRAP_PAD)
        except p11.PKCS11Error as error:
            yield f"is unwrapped {use} and does not serve ({type(error).__name__})"
        finally:
            opened.destroy()
    with suppress(p11.PKCS11Error):
        unwrap_ec(kek, wrapped, extractable=True, sensitive=False).destroy()
        yield "is unwrapped so that its value can be read, in spite of the KEK's CKA_UNWRAP_TEMPLATE"
