"""One token: its few keys by label, and the work done with them. Every call blocks; any thread may call."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pkcs11.exceptions as p11
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.types import Session

from mesh import metrics
from mesh.hsm import capabilities, unwrap_template
from mesh.hsm.curves import LEAVES_WRAPPED, generate_ec, unwrap_ec
from mesh.hsm.errors import (
    TokenKeyExistsError,
    TokenKeyMissingError,
    WrappedKeyRefusedError,
)
from mesh.hsm.keys import KeyAlgorithm, TokenPrivateKey, public_key_der, signature_der
from mesh.hsm.module import Module
from mesh.hsm.rsa import RsaScheme, TokenRsaPrivateKey, digest_info, rsa_public_key_der
from mesh.hsm.sessions import Desk, Sessions
from mesh.hsm.wrapped import KekName, WrappedKey, WrappedKeyPair

_STAYS_INSIDE = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
_PSS_PARAMETERS = {
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}
_RSA_PUBLIC_EXPONENT = b"\x01\x00\x01"


class Token:
    """A token of a PKCS#11 module, logged in with its user PIN.

    Finding an object takes time linear in their number, so a token holds few keys and their handles are kept;
    subject keys live outside, wrapped (`generate_wrapped`, `sign_with_wrapped`). Sessions are per thread.

    Every method raises `TokenUnavailableError` when the token or module is away; `probe` notices and recovers.
    """

    def __init__(self, module: Module, label: str, pin_file: Path, *, writable: bool = False) -> None:
        """Take the token by its label; `writable` lets keys be generated in it (a ceremony, never a service)."""
        self._sessions = Sessions(module, label, pin_file, writable=writable)
        with self._sessions.work("open") as desk:
            self.model = desk.session.token.model
            self.serial = desk.session.token.serial.decode("ascii", "replace").strip()
            self._manufacturer = desk.session.token.manufacturer_id
        self._unwraps = 0
        self._counting = threading.Lock()

    @property
    def is_development_token(self) -> bool:
        """Whether this is SoftHSM: keys in files, no certified device."""
        return "softhsm" in self._manufacturer.lower()

    @property
    def unwraps(self) -> int:
        """How often this process asked the token to unwrap a key."""
        return self._unwraps

    def probe(self) -> None:
        """Check that the token answers; if it does not, initialise the module anew and check again.

        Raises:
            TokenError: the token is away, still.
        """
        self._sessions.probe()

    def generate_key_pair(self, label: str, algorithm: KeyAlgorithm) -> bytes:
        """Make a signing key that never leaves the token; give its SubjectPublicKeyInfo (DER).

        Raises:
            TokenKeyExistsError: the label is taken.
        """
        with self._sessions.work("generate") as desk:
            self._refuse_taken(desk, ObjectClass.PRIVATE_KEY, label)
            if algorithm.rsa_bits:
                return _generate_rsa(desk.session, algorithm, label)
            public, _ = generate_ec(desk.session, algorithm, label=label, private=_STAYS_INSIDE)
            return public

    def public_key_der(self, label: str) -> bytes:
        """SubjectPublicKeyInfo (DER) of the signing key with this label.

        Raises:
            TokenKeyMissingError: there is none.
        """
        with self._sessions.work("public_key") as desk:
            key = self._sessions.key(desk, ObjectClass.PUBLIC_KEY, label)
            if key[Attribute.KEY_TYPE] is KeyType.RSA:
                return rsa_public_key_der(key[Attribute.MODULUS], key[Attribute.PUBLIC_EXPONENT])
            parameters = key[Attribute.EC_PARAMS]
            for algorithm in KeyAlgorithm:
                if not algorithm.rsa_bits and algorithm.ec_parameters_der == parameters:
                    return public_key_der(algorithm, key[Attribute.EC_POINT])
            raise TokenKeyMissingError(f"the token's key {label} is of no known algorithm")

    def has_key_pair(self, label: str) -> bool:
        """Whether the token holds a signing key with this label."""
        with self._sessions.work("find") as desk:
            return desk.find(ObjectClass.PRIVATE_KEY, label) is not None

    def sign_digest(self, label: str, digest: bytes) -> bytes:
        """Sign a digest with a key on a curve; give an ECDSA-Sig-Value (DER).

        Raises:
            TokenKeyMissingError: the token holds no signing key with this label.
        """
        with self._sessions.work("sign") as desk:
            key = self._sessions.key(desk, ObjectClass.PRIVATE_KEY, label)
            return signature_der(key.sign(digest, mechanism=Mechanism.ECDSA))

    def sign_digest_rsa(
        self, label: str, digest: bytes, algorithm: hashes.HashAlgorithm, scheme: RsaScheme, salt_bytes: int = 0
    ) -> bytes:
        """Sign a digest of `algorithm` (SHA-256, SHA-384, SHA-512) with an RSA key; `salt_bytes` is for PSS.

        Raises:
            TokenKeyMissingError: the token holds no signing key with this label.
        """
        with self._sessions.work("sign") as desk:
            key = self._sessions.key(desk, ObjectClass.PRIVATE_KEY, label)
            if scheme is RsaScheme.PKCS1_V15:
                signature: bytes = key.sign(digest_info(digest, algorithm), mechanism=Mechanism.RSA_PKCS)
            else:
                parameters = (*_PSS_PARAMETERS[algorithm.name], salt_bytes)
                signature = key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameters)
            return signature

    def private_key(self, label: str) -> TokenPrivateKey:
        """Give a signing key on a curve to `cryptography`'s builders. Their `sign` then blocks on the token.

        Raises:
            TokenKeyMissingError: there is none, or it is an RSA key.
        """
        public_key = load_der_public_key(self.public_key_der(label))
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise TokenKeyMissingError(f"the token's key {label} is on no curve")
        return TokenPrivateKey(public_key, lambda digest: self.sign_digest(label, digest))

    def rsa_private_key(self, label: str) -> TokenRsaPrivateKey:
        """Give an RSA signing key to `cryptography`'s builders, as `private_key`.

        Raises:
            TokenKeyMissingError: there is none, or it is on a curve.
        """
        public_key = load_der_public_key(self.public_key_der(label))
        if not isinstance(public_key, rsa.RSAPublicKey):
            raise TokenKeyMissingError(f"the token's key {label} is no RSA key")
        return TokenRsaPrivateKey(public_key, lambda digest, *how: self.sign_digest_rsa(label, digest, *how))

    def create_kek(self, kek: KekName) -> None:
        """Make an AES-256 key that wraps subject keys and never leaves the token; what it unwraps must be sensitive.

        Raises:
            TokenKeyExistsError: this generation exists.
            KekTemplateRefusedError: the module takes no CKA_UNWRAP_TEMPLATE.
        """
        with self._sessions.work("generate") as desk:
            self._refuse_taken(desk, ObjectClass.SECRET_KEY, kek.token_label)
            unwrap_template.make_kek(self._sessions.functions, desk.session, kek.token_label, stored=True)

    def has_kek(self, kek: KekName) -> bool:
        """Whether the token holds this generation of the key-encryption key."""
        return self._has_secret(kek.token_label)

    def require_kek(self, kek: KekName) -> None:
        """Refuse unless the token holds this generation; from here on `probe` sees that it does.

        Raises:
            TokenKeyMissingError: it does not.
        """
        with self._sessions.work("find") as desk:
            self._sessions.key(desk, ObjectClass.SECRET_KEY, kek.token_label)

    def keks(self, label: str) -> tuple[KekName, ...]:
        """The generations of a key-encryption key that the token holds, oldest first."""
        with self._sessions.work("find") as desk:
            keys = desk.session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})
            found = [key[Attribute.LABEL] for key in keys]
        numbers = [name.removeprefix(f"{label}-") for name in found if name.startswith(f"{label}-")]
        return tuple(KekName(label, number) for number in sorted(int(text) for text in numbers if text.isdecimal()))

    def forces_sensitive(self, kek: KekName) -> bool:
        """Whether the KEK's CKA_UNWRAP_TEMPLATE forces whatever it unwraps to be sensitive.

        Raises:
            TokenKeyMissingError: the token does not hold the KEK.
        """
        with self._sessions.work("find") as desk:
            key = self._sessions.key(desk, ObjectClass.SECRET_KEY, kek.token_label, watched=False)
            return unwrap_template.forces_sensitive(self._sessions.functions, desk.session, key.handle)

    def never_left(self, kek: KekName) -> bool:
        """Whether the token says of the KEK that it was made there and was never extractable.

        Raises:
            TokenKeyMissingError: the token does not hold the KEK.
        """
        with self._sessions.work("find") as desk:
            key = self._sessions.key(desk, ObjectClass.SECRET_KEY, kek.token_label, watched=False)
            return all(key[item] for item in (Attribute.LOCAL, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE))

    def destroy_kek(self, kek: KekName) -> None:
        """Destroy one generation for good: nothing that it wrapped opens again.

        Raises:
            TokenKeyMissingError: the token does not hold it.
        """
        with self._sessions.work("destroy") as desk:
            key = self._sessions.key(desk, ObjectClass.SECRET_KEY, kek.token_label, watched=False)
            key.destroy()
            del desk.keys[ObjectClass.SECRET_KEY, kek.token_label]

    def lacks(self) -> tuple[str, ...]:
        """What the token lacks of what wrapped subject keys need, tried with keys that live in a session."""
        with self._sessions.work("probe") as desk:
            return capabilities.lacking(self._sessions.functions, desk.session)

    def session_keys(self) -> int:
        """How many private keys this process has in sessions now; subject keys are there while they sign only."""
        with self._sessions.work("find") as desk:
            wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.TOKEN: False}
            return len(list(desk.session.get_objects(wanted)))

    def create_mac_key(self, label: str) -> None:
        """Make a 256-bit key for `mac` that never leaves the token.

        Raises:
            TokenKeyExistsError: the label is taken.
        """
        flags = MechanismFlag.SIGN | MechanismFlag.VERIFY
        self._create_secret(label, KeyType.GENERIC_SECRET, flags, Mechanism.GENERIC_SECRET_KEY_GEN)

    def has_mac_key(self, label: str) -> bool:
        """Whether the token holds a key for `mac` with this label."""
        return self._has_secret(label)

    def mac(self, label: str, data: bytes) -> bytes:
        """HMAC-SHA-256 of `data`, computed in the token.

        Raises:
            TokenKeyMissingError: there is no such key.
        """
        with self._sessions.work("mac") as desk:
            key = self._sessions.key(desk, ObjectClass.SECRET_KEY, label)
            code: bytes = key.sign(data, mechanism=Mechanism.SHA256_HMAC)
            return code

    def generate_wrapped(self, kek: KekName, algorithm: KeyAlgorithm) -> WrappedKeyPair:
        """Make a subject key in a session, wrap it and destroy the session's copy: nothing stays in the token.

        Raises:
            TokenKeyMissingError: the token does not hold the KEK.
            ValueError: the algorithm is on no curve.
        """
        if algorithm.rsa_bits:
            raise ValueError("subject keys are on curves")
        with self._sessions.work("generate_wrapped") as desk:
            kek_key = self._sessions.key(desk, ObjectClass.SECRET_KEY, kek.token_label)
            public, private = generate_ec(desk.session, algorithm, label=None, private=LEAVES_WRAPPED)
            try:
                wrapped = kek_key.wrap_key(private, mechanism=Mechanism.AES_KEY_WRAP_PAD)
            finally:
                private.destroy()
            return WrappedKeyPair(public, WrappedKey(kek, algorithm, wrapped))

    def sign_with_wrapped(self, key: WrappedKey, digests: Sequence[bytes]) -> list[bytes]:
        """Unwrap a subject key, sign the digests in their order, destroy it; give ECDSA-Sig-Values (DER).

        Raises:
            WrappedKeyRefusedError: the KEK does not open the blob.
            TokenKeyMissingError: the token does not hold the KEK.
        """
        with self._sessions.work("sign_with_wrapped") as desk:
            private = self._unwrap(desk, key)
            try:
                return [signature_der(private.sign(digest, mechanism=Mechanism.ECDSA)) for digest in digests]
            finally:
                private.destroy()

    def rewrap(self, key: WrappedKey, kek: KekName) -> WrappedKey:
        """Wrap a subject key by another KEK of this token: unwrap it, extractable but sensitive, wrap it, destroy it.

        Whether the answer is the same key is the caller's to prove, with a signature.

        Raises:
            WrappedKeyRefusedError: the KEK does not open the blob.
            TokenKeyMissingError: the token does not hold both KEKs.
        """
        with self._sessions.work("rewrap") as desk:
            other = self._sessions.key(desk, ObjectClass.SECRET_KEY, kek.token_label, watched=False)
            private = self._unwrap(desk, key, extractable=True)
            try:
                wrapped = other.wrap_key(private, mechanism=Mechanism.AES_KEY_WRAP_PAD)
            finally:
                private.destroy()
            return WrappedKey(kek, key.algorithm, wrapped)

    def random(self, count: int) -> bytes:
        """`count` bytes of the token's generator."""
        with self._sessions.work("random") as desk:
            drawn: bytes = desk.session.generate_random(count * 8)
            return drawn

    def _refuse_taken(self, desk: Desk, kind: ObjectClass, label: str) -> None:
        if desk.find(kind, label) is not None:
            raise TokenKeyExistsError(f"the token holds a key {label} already")

    def _has_secret(self, label: str) -> bool:
        with self._sessions.work("find") as desk:
            return desk.find(ObjectClass.SECRET_KEY, label) is not None

    def _create_secret(self, label: str, kind: KeyType, flags: MechanismFlag, mechanism: Mechanism) -> None:
        with self._sessions.work("generate") as desk:
            self._refuse_taken(desk, ObjectClass.SECRET_KEY, label)
            desk.session.generate_key(
                kind,
                256,
                label=label,
                id=label.encode("utf-8"),
                store=True,
                capabilities=flags,
                mechanism=mechanism,
                template=_STAYS_INSIDE,
            )

    def _unwrap(self, desk: Desk, key: WrappedKey, *, extractable: bool = False) -> Any:
        # Not watched: an earlier generation may be destroyed in the end, while services run.
        kek = self._sessions.key(desk, ObjectClass.SECRET_KEY, key.kek.token_label, watched=False)
        with self._counting:
            self._unwraps += 1
        metrics.KEY_UNWRAPS.add()
        try:
            private = unwrap_ec(kek, key.wrapped, extractable=extractable)
        except p11.PKCS11Error as error:
            # SoftHSM says CKR_GENERAL_ERROR both of a blob that fails RFC 5649's check and of a token that is gone.
            desk.session.token.slot.get_token()
            raise WrappedKeyRefusedError("the token cannot open the wrapped key") from error
        if private[Attribute.EC_PARAMS] != key.algorithm.ec_parameters_der:
            private.destroy()
            raise WrappedKeyRefusedError("the wrapped key is of another algorithm than its envelope says")
        return private


def _generate_rsa(session: Session, algorithm: KeyAlgorithm, label: str) -> bytes:
    """Make an RSA key pair in the token; give SubjectPublicKeyInfo."""
    public_key, _ = session.generate_keypair(
        KeyType.RSA,
        algorithm.rsa_bits,
        label=label,
        id=label.encode("utf-8"),
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        public_template={Attribute.PUBLIC_EXPONENT: _RSA_PUBLIC_EXPONENT},
        private_template=_STAYS_INSIDE,
    )
    return rsa_public_key_der(public_key[Attribute.MODULUS], public_key[Attribute.PUBLIC_EXPONENT])
