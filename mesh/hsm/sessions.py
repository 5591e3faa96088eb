"""Sessions with one token: one per thread, one login for all of them, handles looked up once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pkcs11.exceptions as p11
from pkcs11 import Attribute, ObjectClass
from pkcs11.types import Key, Session
from pkcs11.types import Token as P11Token

from mesh.hsm.errors import (
    TokenError,
    TokenKeyMissingError,
    TokenPinRefusedError,
    TokenUnavailableError,
    talking_to_the_token,
)
from mesh.hsm.measuring import measured
from mesh.hsm.module import FunctionList, Module


@dataclass(slots=True)
class Desk:
    """One thread's session, and the handles it has looked up."""

    generation: int
    session: Session
    keys: dict[tuple[ObjectClass, str], Key] = field(default_factory=dict)

    def find(self, kind: ObjectClass, label: str) -> Key | None:
        """Search the token, in time linear in its number of objects."""
        with suppress(p11.NoSuchKey):
            return self.session.get_key(object_class=kind, label=label)
        return None


class Sessions:
    """Gives each thread its session, and opens it anew when the module was initialised anew."""

    def __init__(self, module: Module, label: str, pin_file: Path, *, writable: bool) -> None:
        """Open nothing yet."""
        self._module = module
        self._label = label
        self._pin_file = pin_file
        self._writable = writable
        self._thread = threading.local()
        self._login = threading.Lock()
        self._logged_in: tuple[int, P11Token, Session] | None = None
        self._serial: bytes | None = None
        self._pin_refused = False
        self._keys_in_use: dict[tuple[ObjectClass, str], None] = {}

    @contextmanager
    def work(self, operation: str) -> Iterator[Desk]:
        """Use this thread's session for an operation that figures know; what the module raises is a `TokenError`."""
        with measured(operation), self._module.in_use(), talking_to_the_token():
            desk: Desk | None = getattr(self._thread, "desk", None)
            if desk is None or desk.generation != self._module.generation:
                desk = Desk(self._module.generation, self._logged_in_token().open(rw=self._writable))
                self._thread.desk = desk
            yield desk

    @property
    def functions(self) -> FunctionList:
        """The module's own functions; call them inside `work()`."""
        return self._module.functions

    def key(self, desk: Desk, kind: ObjectClass, label: str, *, watched: bool = True) -> Any:
        """The key with this label, looked up once per session; what it can do depends on its kind.

        `probe` looks after the watched ones: the token counts as away when one of them is missing.

        Raises:
            TokenKeyMissingError: there is none.
        """
        key = desk.keys.get((kind, label))
        if key is None:
            key = desk.find(kind, label)
            if key is None:
                raise TokenKeyMissingError(f"the token holds no key {label}")
            desk.keys[kind, label] = key
        if watched:
            self._keys_in_use[kind, label] = None
        return key

    def probe(self) -> None:
        """Check that the token answers; if it does not, initialise the module anew and check again.

        Raises:
            TokenError: the token is away, still.
        """
        generation = self._module.generation
        try:
            self._check()
        except TokenPinRefusedError:
            raise
        except TokenError:
            self._module.reinitialise(generation)
            self._check()

    def _check(self) -> None:
        """Ask the token for its description and for every key in use: SoftHSM answers some calls from memory."""
        with self.work("probe") as desk:
            desk.session.token.slot.get_token()
            for kind, label in list(self._keys_in_use):
                _ = self.key(desk, kind, label)[Attribute.LABEL]

    def _logged_in_token(self) -> P11Token:
        """Log in once per generation: a login holds for all sessions of a process while one of them is open."""
        with self._login:
            if self._logged_in is not None and self._logged_in[0] == self._module.generation:
                return self._logged_in[1]
            if self._pin_refused:
                raise TokenPinRefusedError("the token has refused its PIN")
            token = self._module.find_token(self._label)
            if self._serial not in (None, token.serial):
                raise TokenUnavailableError("another token has taken the label of ours")
            try:
                pin = self._pin_file.read_text("utf-8").strip()
            except OSError as error:
                raise TokenUnavailableError("the file of the token's PIN cannot be read") from error
            try:
                session = token.open(rw=self._writable, user_pin=pin)
            except p11.UserAlreadyLoggedIn:
                session = token.open(rw=self._writable)
            except (p11.PinIncorrect, p11.PinLocked):
                self._pin_refused = True
                raise
            self._serial = token.serial
            self._logged_in = (self._module.generation, token, session)
            return token
