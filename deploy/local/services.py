"""What each room is told: the settings that all share, and one table of what each needs beside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from deploy.local import keys
from deploy.local.certificates import Identity
from deploy.local.ports import HOST, SERVICES
from deploy.local.state import State
from deploy.local.tokens import DevelopmentToken

# A few sample people stand in for everybody: limits per person would end the demonstrations of a day.
_MANY: Final = "10000"

ROOMS_WITH_DATABASE: Final = tuple(room for room in SERVICES if room != "facematch")


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that was made before the rooms start."""

    state: State
    ports: Mapping[str, int]
    identities: Mapping[str, Identity]
    web: Identity
    receipt_keys: Mapping[str, Path]
    pins: Path
    floors: Mapping[str, Path]
    tokens: Mapping[str, DevelopmentToken]
    pki: Path
    assets: Path
    otlp_endpoint: str = ""
    log_level: str = "info"
    webhook_uri: str = ""

    @property
    def web_url(self) -> str:
        """Where the world finds the mesh."""
        return f"https://localhost:{self.ports['envoy https']}"

    @property
    def page_url(self) -> str:
        """The origin of the hosted page."""
        return f"https://localhost:{self.ports['envoy page']}"

    @property
    def loopback_redirect_uri(self) -> str:
        """Where a person comes back to a program on this machine (RFC 8252 section 7.3)."""
        return f"http://{HOST}:{self.ports['client return']}/return"

    @property
    def pki_url(self) -> str:
        """Where relying parties fetch CRLs and ask for status; it stands in certificates."""
        return pki_url(self.ports)

    @property
    def outbox(self) -> Path:
        """Where the development outbox leaves SMS."""
        return self.state.private("outbox")

    def database_url_file(self, room: str) -> Path:
        """Where a room's database URL is."""
        return self.state.private("secrets") / f"{room}.url"

    def key(self, name: str) -> str:
        """A file of 32 random bytes."""
        return str(keys.symmetric_key(self.state, name))

    def model(self, name: str) -> str:
        """A verified model file."""
        return str(self.assets / "models" / name)


def pki_url(ports: Mapping[str, int]) -> str:
    """The public address of the authority, on the plain HTTP listener."""
    return f"http://{HOST}:{ports['envoy pki']}/pki"


def environment_of(room: str, parts: Parts) -> dict[str, str]:
    """The environment that a room's process starts with."""
    identity = parts.identities[room]
    shared = {
        "FINID_ENV": "sandbox",
        "FINID_LISTEN": f"{HOST}:{parts.ports[room]}",
        "FINID_HEALTH_LISTEN": f"{HOST}:{parts.ports[f'{room} health']}",
        "FINID_METRICS_ADDRESS": f"{HOST}:{parts.ports[f'{room} metrics']}",
        "FINID_TLS_CERTIFICATE_FILE": str(identity.certificate),
        "FINID_TLS_KEY_FILE": str(identity.key),
        "FINID_TLS_CA_FILE": str(identity.root),
        "FINID_LOG_LEVEL": parts.log_level,
        "FINID_RELOAD_EVERY_S": "1",
    }
    if parts.otlp_endpoint:
        shared["FINID_OTLP_ENDPOINT"] = parts.otlp_endpoint
    if room in ROOMS_WITH_DATABASE:
        shared["FINID_DATABASE_URL_FILE"] = str(parts.database_url_file(room))
    if room in parts.receipt_keys:
        shared["FINID_RECEIPT_KEY_FILE"] = str(parts.receipt_keys[room])
    if room in parts.floors:
        shared |= {"FINID_PINS_FILE": str(parts.pins), "FINID_FLOORS_FILE": str(parts.floors[room])}
    return shared | _OWN[room](parts)


def _auth_gateway(parts: Parts) -> dict[str, str]:
    spokes = [room for room in SERVICES if room != "auth_gateway"]
    return {
        "FINID_GATEWAY_KEY_FILE": parts.key("auth_gateway"),
        "FINID_STATEMENT_KEY_FILE": str(keys.gateway_key(parts.state, "statement")),
        "FINID_WEBHOOK_KEY_FILE": str(keys.gateway_key(parts.state, "webhook")),
        # Receivers under development are on this machine, with a certificate of the mesh's own web root.
        "FINID_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
        "FINID_WEBHOOK_CA_FILE": str(parts.web.root),
        # The sandbox's people are made up, and their records are attested in 0.03 s: no example for a real source.
        "FINID_CREATE_ANSWERS_AFTER_S": "0.07",
        "FINID_PINS_FILE": str(parts.pins),
        "FINID_PAGE_URI": f"{parts.page_url}/capture",
        "FINID_TOKEN_ISSUER": parts.web_url,
        **{f"FINID_PEER_{room.upper()}": f"{HOST}:{parts.ports[room]}" for room in spokes},
    }


def _liveness(parts: Parts) -> dict[str, str]:
    return {
        "FINID_FIELD_KEY_FILE": parts.key("liveness"),
        "FINID_SCRIPT_KEY_FILE": parts.key("liveness-scripts"),
        "FINID_LANDMARKER_FILE": parts.model("face_landmarker.task"),
        "FINID_PASSIVE_MODEL_FILE": parts.model("fr_liveness_fused.onnx"),
        "FINID_SPOOF_MODEL_FILE": parts.model("FaceAntiSpoofing.tflite"),
        "FINID_LIVENESS_ATTEMPTS_PER_DAY": _MANY,
    }


def _facematch(parts: Parts) -> dict[str, str]:
    private, _ = keys.photo_keys(parts.state)
    return {
        "FINID_PHOTO_KEY_FILE": str(private),
        "FINID_FACE_DETECTOR_FILE": parts.model("face_detection_yunet_2023mar_fused.onnx"),
        "FINID_FACE_EMBEDDER_FILE": parts.model("face_recognition_sface_2021dec_fused.onnx"),
    }


def _otp(parts: Parts) -> dict[str, str]:
    return {
        "FINID_OTP_HMAC_KEY_FILE": parts.key("otp"),
        "FINID_OTP_PROVIDER": "outbox",
        "FINID_OTP_OUTBOX_DIR": str(parts.outbox),
        "FINID_OTP_ORIGIN": "localhost",
        "FINID_OTP_PER_PHONE_HOUR": _MANY,
        "FINID_OTP_PER_PHONE_DAY": _MANY,
        "FINID_OTP_PUMPING_MIN_ASKED": _MANY,
        "FINID_OTP_PER_PERSON_HOUR": _MANY,
        "FINID_OTP_PER_PERSON_DAY": _MANY,
        "FINID_OTP_PER_ADDRESS_HOUR": _MANY,
        "FINID_OTP_PER_ADDRESS_DAY": _MANY,
    }


def _registry(parts: Parts) -> dict[str, str]:
    _, public = keys.photo_keys(parts.state)
    return {
        "FINID_FIELD_KEY_FILE": parts.key("registry"),
        "FINID_PHOTO_RECIPIENT_FILE": str(public),
        "FINID_STATE_SOURCE": "sandbox",
        "FINID_INQUIRIES_PER_HOUR": _MANY,
    }


def _documents(parts: Parts) -> dict[str, str]:
    return {
        "FINID_FIELD_KEY_FILE": parts.key("documents"),
        "FINID_TRUST_ANCHORS_FILE": str(parts.pki / "root.pem"),
        "FINID_DOCUMENTS_DIR": str(parts.state.private("documents")),
    }


def _ca(parts: Parts) -> dict[str, str]:
    return {
        **parts.tokens["ca"].environment,
        "FINID_FIELD_KEY_FILE": parts.key("ca"),
        "FINID_CA_PKI_FOLDER": str(parts.pki),
        "FINID_CA_PKI_URL": parts.pki_url,
        "FINID_CA_CRL_FILE": str(parts.state.private("ca") / "issuing.crl"),
        "FINID_ORDERERS_FILE": str(keys.orderers_file(parts.state, datetime.now(UTC))),
    }


def _signer(parts: Parts) -> dict[str, str]:
    return {
        **parts.tokens["signer"].environment,
        "FINID_SUBJECT_HMAC_KEY_FILE": parts.key("signer"),
        "FINID_ISSUING_CA_FILE": str(parts.pki / "issuing.pem"),
        "FINID_ORDERERS_FILE": str(keys.orderers_file(parts.state, datetime.now(UTC))),
    }


def _portal(parts: Parts) -> dict[str, str]:
    return {
        "FINID_PORTAL_HTTP_LISTEN": f"{HOST}:{parts.ports['portal https']}",
        "FINID_CLIENT_SECRET_KEY_FILE": parts.key("portal"),
        "FINID_TOKEN_KEY_FILE": str(keys.token_key(parts.state)),
        "FINID_TOKEN_ISSUER": parts.web_url,
    }


_OWN: Final[Mapping[str, Callable[[Parts], dict[str, str]]]] = {
    "auth_gateway": _auth_gateway,
    "liveness": _liveness,
    "facematch": _facematch,
    "otp": _otp,
    "registry": _registry,
    "documents": _documents,
    "ca": _ca,
    "signer": _signer,
    "portal": _portal,
}
ROOMS: Final = tuple(_OWN)
