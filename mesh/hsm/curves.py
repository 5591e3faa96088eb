"""Keys on curves in a session: made in a token or beside it, and brought back out of their wrapping."""

from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.constants import DEFAULT
from pkcs11.types import PrivateKey, Session

from mesh.hsm.keys import KeyAlgorithm, public_key_der

LEAVES_WRAPPED = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True}
# python-pkcs11 fills these in for every unwrapped key, and SoftHSM refuses them on a private key.
_NOT_ASKED = {Attribute.ENCRYPT: DEFAULT, Attribute.VERIFY: DEFAULT, Attribute.WRAP: DEFAULT}


def unwrap_ec(kek: Any, wrapped: bytes, *, extractable: bool = False, sensitive: bool = True) -> Any:
    """Bring a wrapped key into the session, where it may sign; raises PKCS11Error.

    `extractable` lets it be wrapped again, `sensitive` keeps its value from being read.
    """
    attributes = {Attribute.PRIVATE: True, Attribute.SENSITIVE: sensitive, Attribute.EXTRACTABLE: extractable}
    return kek.unwrap_key(
        ObjectClass.PRIVATE_KEY,
        KeyType.EC,
        wrapped,
        mechanism=Mechanism.AES_KEY_WRAP_PAD,
        capabilities=MechanismFlag.SIGN,
        template=attributes | _NOT_ASKED,
    )


def generate_ec(
    session: Session, algorithm: KeyAlgorithm, *, label: str | None, private: dict[Attribute, bool]
) -> tuple[bytes, PrivateKey]:
    """Make a key pair, in the token if it has a label and else in the session; give SubjectPublicKeyInfo and key."""
    parameters = session.create_domain_parameters(
        KeyType.EC, {Attribute.EC_PARAMS: algorithm.ec_parameters_der}, local=True
    )
    public_key, private_key = parameters.generate_keypair(
        label=label,
        id=label.encode("utf-8") if label else None,
        store=label is not None,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        private_template=private,
    )
    public = public_key_der(algorithm, public_key[Attribute.EC_POINT])
    if label is None:
        public_key.destroy()
    return public, private_key
