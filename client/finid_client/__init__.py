"""FinID for participants: authentications, certificates and cloud signatures, and their proofs verified offline.

`Client` and `AsyncClient` make the same calls. `verify_evidence`, `verify_result`, `verify_consents` and
`verify_webhook` need no network. Everything raised is a `FinIdClientError`.
"""

from finid_client.async_client import AsyncClient
from finid_client.client import Client
from finid_client.consent_receipt import ConsentReceipt, GivenConsent, verify_consents
from finid_client.credentials import Credentials
from finid_client.device import DeviceSession
from finid_client.errors import (
    CallError,
    ConfigurationError,
    FinIdClientError,
    InvalidRequestError,
    NotAllowedError,
    NotAuthenticatedError,
    NotFinishedError,
    NotFoundError,
    ProofRefusedError,
    ReturnRefusedError,
    TooManyError,
    UnavailableError,
    WrongStateError,
)
from finid_client.evidence import VerifiedEvidence, evidence_of_json, verify_evidence
from finid_client.keys import KeySet
from finid_client.loopback import LoopbackReturn
from finid_client.retrying import NO_RETRIES, Retries
from finid_client.returning import Begun, Pending
from finid_client.statements import SignedResult, verify_result
from finid_client.webhooks import Webhook, verify_webhook
from finid_client.words import document
from mesh.pins import Pins
from mesh.transaction import Env, Purpose

__all__ = [
    "NO_RETRIES",
    "AsyncClient",
    "Begun",
    "CallError",
    "Client",
    "ConfigurationError",
    "ConsentReceipt",
    "Credentials",
    "DeviceSession",
    "Env",
    "FinIdClientError",
    "GivenConsent",
    "InvalidRequestError",
    "KeySet",
    "LoopbackReturn",
    "NotAllowedError",
    "NotAuthenticatedError",
    "NotFinishedError",
    "NotFoundError",
    "Pending",
    "Pins",
    "ProofRefusedError",
    "Purpose",
    "Retries",
    "ReturnRefusedError",
    "SignedResult",
    "TooManyError",
    "UnavailableError",
    "VerifiedEvidence",
    "Webhook",
    "WrongStateError",
    "document",
    "evidence_of_json",
    "verify_consents",
    "verify_evidence",
    "verify_result",
    "verify_webhook",
]
