"""Time stamp tokens: the authority's own against asn1crypto, each signed by the same key of the same token.

    python -m bench.time_stamps

The peer builds TSTInfo, signed attributes and SignedData of the same content anew with asn1crypto, as pyHanko's own
stamper does, with its fixed objects kept, and calls the token with nothing between. What the token's signature costs
bounds every way through it, so each way is shown with a key in software as well, where only the building counts; and
the deployed CA over mTLS last. Rounds of all ways alternate.
"""

import asyncio
import hashlib
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from asn1crypto import algos, cms, core, tsp, x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from finid.ca.v1 import ca_pb2 as pb

from bench import authority as bench_authority
from bench import closed_loop
from bench.closed_loop import Measured, Timing
from bench.table import heading, table
from mesh import telemetry
from services.ca.authority import TSA_KEY, Authority
from services.ca.profiles import TIME_STAMP_POLICY
from services.ca.timestamp import TimeStamps
from tests.ca.authorities import PRACTICE, MemoryAuthority

ROUNDS = 3
ROUND_S, WARM_UP_S = 0.7, 0.1
CALLERS = 16
_DEADLINE_S = 10
_POLICY = PRACTICE.policy(TIME_STAMP_POLICY).dotted_string

SIGNATURE = "the token's signature alone"
OURS, PEER = "here", "asn1crypto"
SOFT_SIGNATURE = "a signature in software alone"
SOFT_OURS, SOFT_PEER, SOFT_PYHANKO = (
    "here, key in software",
    "asn1crypto, key in software",
    "pyHanko's, key in software",
)
DEPLOYED, DEPLOYED_MANY = "StampDigest over mTLS, 1 at once", f"StampDigest over mTLS, {CALLERS} at once"

Stamp = Callable[[bytes], Awaitable[object]]


def digest() -> bytes:
    """Something to be stamped."""
    return secrets.token_bytes(32)


def by_asn1crypto(tsa_der: bytes, sign: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The plain path: the structures of RFC 3161, 5816 and 5652, filled in and encoded anew for each token."""
    certificate = x509.Certificate.load(tsa_der)
    sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
    certificate_hash = hashlib.sha256(tsa_der).digest()

    def stamp(digest_sha256: bytes) -> bytes:
        info = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": _POLICY,
                "message_imprint": {"hash_algorithm": sha256, "hashed_message": digest_sha256},
                "serial_number": int.from_bytes(secrets.token_bytes(20)) | 1,
                "gen_time": bench_authority.now().replace(microsecond=0),
                "accuracy": {"seconds": 1},
            }
        )
        encapsulated = info.dump()
        certificate_id = tsp.ESSCertIDv2({"cert_hash": certificate_hash})
        attributes = cms.CMSAttributes(
            [
                cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
                cms.CMSAttribute({"type": "message_digest", "values": [hashlib.sha256(encapsulated).digest()]}),
                cms.CMSAttribute(
                    {
                        "type": "signing_certificate_v2",
                        "values": [tsp.SigningCertificateV2({"certs": [certificate_id]})],
                    }
                ),
            ]
        )
        signer = cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.IssuerAndSerialNumber(
                    {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
                ),
                "digest_algorithm": sha256,
                "signed_attrs": attributes,
                "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                "signature": sign(hashlib.sha256(attributes.dump()).digest()),
            }
        )
        signed = cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [sha256],
                "encap_content_info": {
                    "content_type": "tst_info",
                    "content": core.ParsableOctetString(encapsulated),
                },
                "certificates": [certificate],
                "signer_infos": [signer],
            }
        )
        encoded: bytes = cms.ContentInfo({"content_type": "signed_data", "content": signed}).dump()
        return encoded

    return stamp


def ours(authority: Authority) -> TimeStamps:
    """The authority's own."""
    return TimeStamps(authority=authority, practice=PRACTICE, now=bench_authority.now, random_bytes=secrets.token_bytes)


def _at_once(make: Callable[[bytes], object]) -> Stamp:
    async def stamp(digest_sha256: bytes) -> object:
        return make(digest_sha256)

    return stamp


def ways(ca: bench_authority.Ca) -> dict[str, tuple[int, Stamp]]:
    """Each way: how many call at once, and the call."""
    memory = MemoryAuthority()
    soft_key = memory.tsa_key.key
    assert isinstance(soft_key, ec.EllipticCurvePrivateKey)

    def sign_in_token(digest_sha256: bytes) -> bytes:
        return ca.token.sign_digest(TSA_KEY, digest_sha256)

    def sign_in_software(digest_sha256: bytes) -> bytes:
        return soft_key.sign(digest_sha256, ec.ECDSA(Prehashed(hashes.SHA256())))

    async def deployed(digest_sha256: bytes) -> object:
        return await ca.stub.StampDigest(pb.StampDigestRequest(digest_sha256=digest_sha256), timeout=_DEADLINE_S)

    return {
        SIGNATURE: (1, _at_once(sign_in_token)),
        PEER: (1, _at_once(by_asn1crypto(ca.authority.tsa.der, sign_in_token))),
        OURS: (1, ours(ca.authority).stamp_digest),
        SOFT_SIGNATURE: (1, _at_once(sign_in_software)),
        SOFT_PEER: (1, _at_once(by_asn1crypto(memory.authority.tsa.der, sign_in_software))),
        SOFT_OURS: (1, ours(memory.authority).stamp_digest),
        DEPLOYED: (1, deployed),
        DEPLOYED_MANY: (CALLERS, deployed),
    }


async def measure(compared: Mapping[str, tuple[int, Stamp]], round_s: float) -> dict[str, Measured]:
    """Return the timings of each way; rounds of all alternate."""
    rounds: dict[str, list[Timing]] = {name: [] for name in compared}
    for _ in range(ROUNDS):
        for name, (callers, stamp) in compared.items():
            digests = (digest() for _ in itertools.count())
            rounds[name].append(await closed_loop.run(stamp, digests, callers, round_s))
    return {name: Measured(timings) for name, timings in rounds.items()}


async def main() -> None:
    """Measure and print."""
    telemetry.start("bench", log_level="error", otlp_endpoint=None)
    async with AsyncExitStack() as stack:
        compared = ways(await bench_authority.start(stack))
        await measure(compared, WARM_UP_S)
        measured = await measure(compared, ROUND_S)
    heading("Time stamp tokens, P-256")
    rows = [
        (
            name,
            f"{own.calls_per_s:.0f}",
            f"{own.percentile_ms(50):.2f}",
            f"{own.calls_per_s / measured[SOFT_PEER if 'software' in name else PEER].calls_per_s:.1f}",
            f"{own.calls_per_s / measured[SOFT_SIGNATURE if 'software' in name else SIGNATURE].calls_per_s:.2f}",
        )
        for name, own in measured.items()
    ]
    table(("way", "tokens/s", "p50 ms", "of asn1crypto", "of the signature"), rows)


if __name__ == "__main__":
    asyncio.run(main())
