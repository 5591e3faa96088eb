"""A PKCS#11 module in this process: loaded once, initialised for threads, initialised anew when a token was lost.

python-pkcs11 calls C_Initialize(NULL), by which an application promises that no two threads use the module at once
(PKCS#11 2.40, 5.4), and then lets go of the GIL: with threads, SoftHSM crashes. So the module is finalised right after
loading and initialised again with CKF_OS_LOCKING_OK, before the first session.
"""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pkcs11
from pkcs11.types import Token as P11Token

from mesh.hsm.errors import TokenUnavailableError, talking_to_the_token

_CKR_OK = 0x00
_CKR_CRYPTOKI_NOT_INITIALIZED = 0x190
_CKF_OS_LOCKING_OK = 0x02


class _InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS (PKCS#11 2.40, 3.7)."""

    _fields_ = (
        ("create_mutex", ctypes.c_void_p),
        ("destroy_mutex", ctypes.c_void_p),
        ("lock_mutex", ctypes.c_void_p),
        ("unlock_mutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_void_p)
_GET_ATTRIBUTE_VALUE = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong)
_GENERATE_KEY = ctypes.CFUNCTYPE(
    ctypes.c_ulong, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p
)


class FunctionList(ctypes.Structure):
    """The head of CK_FUNCTION_LIST (PKCS#11 2.40, 3.6): the functions that python-pkcs11 cannot call as we need.

    The gaps are as many functions as stand between them in the header file (pkcs11f.h).
    """

    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("initialize", _FUNCTION),
        ("finalize", _FUNCTION),
        ("_get_info_to_get_object_size", ctypes.c_void_p * 22),
        ("get_attribute_value", _GET_ATTRIBUTE_VALUE),
        ("_set_attribute_value_to_decrypt_verify_update", ctypes.c_void_p * 33),
        ("generate_key", _GENERATE_KEY),
    )


class Module:
    """One loaded module. Calls into it run side by side; initialising it anew waits until none runs.

    `generation` counts initialisations: sessions and handles of an earlier one are dead, and their numbers may be
    given out again, so whoever holds some compares generations inside `in_use()` before every use.
    """

    _loaded: ClassVar[dict[Path, "Module"]] = {}
    _loading: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path) -> None:
        """Use `load`: two initialisations of one module in one process would undo each other."""
        with talking_to_the_token():
            self._library = pkcs11.lib(str(path))
        self.functions = _function_list(path)
        self._state = threading.Condition()
        self._calls_running = 0
        self._reinitialising = False
        self.generation = 0
        self._initialize_for_threads()

    @classmethod
    def load(cls, path: Path) -> "Module":
        """Give the process's one instance for this shared library.

        Raises:
            TokenUnavailableError: the library cannot be loaded or initialised.
        """
        with cls._loading:
            key = path.resolve()
            if key not in cls._loaded:
                cls._loaded[key] = cls(key)
            return cls._loaded[key]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the module from being initialised anew while the caller talks to it."""
        with self._state:
            while self._reinitialising:
                self._state.wait()
            self._calls_running += 1
        try:
            yield
        finally:
            with self._state:
                self._calls_running -= 1
                self._state.notify_all()

    def find_token(self, label: str) -> P11Token:
        """Give the one token with this label; call it inside `in_use()`.

        Raises:
            TokenUnavailableError: there is none, or there are several.
        """
        with talking_to_the_token():
            return self._library.get_token(token_label=label)

    def reinitialise(self, seen_generation: int, *, wait_s: float = 1.0) -> None:
        """Finalise and initialise the module, unless somebody did since `seen_generation`.

        Only this makes a module look again for tokens that went away and came back.

        Raises:
            TokenUnavailableError: a call still runs after `wait_s` (a hung module), or the module refuses.
        """
        deadline_s = time.monotonic() + wait_s
        with self._state:
            if self.generation != seen_generation or self._reinitialising:
                return
            self._reinitialising = True
            try:
                while self._calls_running:
                    if not self._state.wait(deadline_s - time.monotonic()):
                        raise TokenUnavailableError("a call to the token has not come back")
                self._initialize_for_threads()
            finally:
                self._reinitialising = False
                self._state.notify_all()

    def _initialize_for_threads(self) -> None:
        result = self.functions.finalize(None)
        if result not in (_CKR_OK, _CKR_CRYPTOKI_NOT_INITIALIZED):
            raise TokenUnavailableError("the PKCS#11 module cannot be finalised")
        arguments = _InitializeArguments(flags=_CKF_OS_LOCKING_OK)
        if self.functions.initialize(ctypes.addressof(arguments)) != _CKR_OK:
            raise TokenUnavailableError("the PKCS#11 module cannot be initialised for threads")
        self.generation += 1


def _function_list(path: Path) -> FunctionList:
    """Ask the loaded library for its function list, the only symbol that a module must export."""
    library = ctypes.CDLL(str(path))
    pointer = ctypes.POINTER(FunctionList)()
    if library.C_GetFunctionList(ctypes.byref(pointer)) != _CKR_OK:
        raise TokenUnavailableError("the PKCS#11 module has no function list")
    return pointer.contents
