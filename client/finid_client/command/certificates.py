"""Which certificate a person signs with, where nobody has named one."""

import itertools

from cryptography import x509
from cryptography.x509.oid import NameOID
from finid.esign.v1 import esign_pb2 as esign

from finid_client.client import Client
from finid_client.errors import ConfigurationError

_PAGE = 100
# The list is the application's and not the person's: beyond this, naming the certificate is quicker.
_MOST = 2000


def newest_of(client: Client, iin: str) -> str:
    """Return the newest active certificate that this person got through the application. Raises ConfigurationError.

    By the certificate itself: its subject's serialNumber is IIN and the number.
    """
    for certificate in itertools.islice(client.certificates.list(_PAGE), _MOST):
        if certificate.state == esign.CERTIFICATE_STATE_ACTIVE and _iin_of(certificate.certificate_der) == iin:
            return certificate.name
    raise ConfigurationError(
        f"no active certificate of this person is among the application's newest {_MOST}: name one with --certificate,"
        " or `finid cert issue`"
    )


def _iin_of(der: bytes) -> str:
    subject = x509.load_der_x509_certificate(der).subject
    values = [str(item.value) for item in subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    return values[0].removeprefix("IIN") if len(values) == 1 else ""
