"""The key ceremony: root, issuing CA, OCSP and TSA keys in their tokens, their certificates and the root's CRL.

`python -m services.ca.ceremony [--dry-run]`, settings in the environment (`settings.CeremonySettings`). It does what is
missing or has run out and nothing else, so it may be repeated: after a crash half-way, and regularly for the
short-lived certificates. The root's token is opened only when the root has to sign. Every step is printed and kept. In
production two operators confirm its plan (`mesh.ceremony_tool`); in a sandbox the PINs' holder runs it alone.
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from mesh import ceremony_tool
from mesh.ceremony import CeremonyRefusedError
from mesh.ceremony_tool import Around, Occasion
from mesh.errors import FinIdError
from mesh.hsm import KeyAlgorithm, RsaScheme, Token, open_token
from services.ca import authority, lint, profiles, subject
from services.ca.authority import AuthorityError
from services.ca.profiles import SERIAL_BYTES, Issuer, Practice, Profile
from services.ca.settings import CeremonySettings
from services.ca.signing import PrivateKey

TRANSCRIPT_FILE = "ceremony.log"
ROOT_CRL_LIFETIME = timedelta(days=180)


class CeremonyError(Exception):
    """The ceremony cannot go on; says why. What it did so far stands, and a repeat goes on from there."""


@dataclass(frozen=True, slots=True)
class Role:
    """One certificate of the authority. It is issued anew when less than `renewed_before` of its life is left."""

    key_label: str
    common_name: str
    profile: Profile
    renewed_before: timedelta = timedelta()


ROOT = Role(authority.ROOT_KEY, "Root CA", profiles.ROOT)
ISSUING = Role(authority.ISSUING_KEY, "Issuing CA", profiles.ISSUING)
OCSP = Role(authority.OCSP_KEY, "OCSP responder", profiles.OCSP, renewed_before=timedelta(days=30))
TSA = Role(authority.TSA_KEY, "Time stamp authority", profiles.TSA, renewed_before=timedelta(days=365))
# What a ceremony generates unless it is told otherwise.
ALGORITHMS = {
    ROOT: KeyAlgorithm.EC_P384,
    ISSUING: KeyAlgorithm.EC_P384,
    OCSP: KeyAlgorithm.EC_P256,
    TSA: KeyAlgorithm.EC_P256,
}
_FILES = {ROOT: "root.pem", ISSUING: "issuing.pem", OCSP: authority.OCSP_FILE, TSA: authority.TSA_FILE}


class Ceremony:
    """Brings one authority's folder and tokens to what they must be."""

    def __init__(
        self,
        *,
        folder: Path,
        practice: Practice,
        organization: str,
        open_root_token: Callable[[], Token],
        token: Token,
        now: datetime,
        random_bytes: Callable[[int], bytes],
        say: Callable[[str], None],
        dry_run: bool = False,
        algorithms: Mapping[Role, KeyAlgorithm] = ALGORITHMS,
        scheme: RsaScheme = RsaScheme.PKCS1_V15,
    ) -> None:
        """`say` takes the lines of the transcript; `now` is in UTC; `algorithms` are those of keys yet to be made,
        `scheme` is how RSA keys sign.

        Raises CeremonyError for an algorithm that a role's profile does not know.
        """
        for role, algorithm in algorithms.items():
            if algorithm not in role.profile.key_algorithms:
                raise CeremonyError(f"{role.common_name}: no key of algorithm {algorithm.value}")
        self._algorithms = algorithms
        self._scheme = scheme
        self._folder = folder
        self._practice = practice
        self._organization = organization
        self._open_root_token = open_root_token
        self._token = token
        self._now = now
        self._random_bytes = random_bytes
        self._say_line = say
        self._dry_run = dry_run
        self._lines: list[str] = []
        self._steps: list[str] = []
        self._root_token: Token | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """What a dry run found to do, for a plan."""
        return tuple(self._steps)

    def run(self) -> None:
        """Do what is missing. Raises CeremonyError, TokenError, AuthorityError, LintError, OSError."""
        self._say(f"ceremony{' (dry run, nothing is changed)' if self._dry_run else ''} for {self._folder}")
        self._announce(self._token, "authority's")
        if not self._dry_run:
            (self._folder / authority.ISSUED_FOLDER).mkdir(parents=True, exist_ok=True)
        try:
            root = self._certificate(ROOT, issuer=None)
            issuing = self._certificate(ISSUING, issuer=root)
            for delegate in (OCSP, TSA):
                self._certificate(delegate, issuer=issuing)
            if root is not None and issuing is not None:
                pem = b"".join(item.public_bytes(Encoding.PEM) for item in (issuing, root))
                self._write(authority.CHAIN_FILE, pem)
            self._root_crl(root)
            self._say("done")
        finally:
            self._keep_transcript()

    def _certificate(self, role: Role, *, issuer: x509.Certificate | None) -> x509.Certificate | None:
        """The role's certificate, kept or made; None in a dry run that would have to make it."""
        kept = self._read(_FILES[role])
        missing = "there is none" if kept is None else self._outdated(role, kept, issuer)
        if kept is not None and not missing:
            self._say(f"{role.common_name}: kept {_describe(kept)}")
            return kept
        if self._dry_run:
            generate = "" if self._has_key(role) else f"generate key {role.key_label} and "
            self._say(f"{role.common_name}: would {generate}issue a certificate ({missing})")
            made_here = f"generate {self._algorithms[role].value} key {role.key_label}, " if generate else ""
            self._steps.append(f"{role.common_name}: {made_here}issue a certificate ({missing})")
            return None
        if kept is not None and role in (ROOT, ISSUING) and not self._is_of_the_token(role, kept):
            raise CeremonyError(f"{_FILES[role]} is not of the token's key {role.key_label}")
        key = self._key(role)
        name = kept.subject if kept is not None else self._subject(role)
        made = self._issue(role, key, name, issuer)
        if role in (OCSP, TSA):
            # First, so that no certificate is ever in use of which OCSP does not know.
            self._write(f"{authority.ISSUED_FOLDER}/{made.serial_number:040x}.pem", made.public_bytes(Encoding.PEM))
        self._write(_FILES[role], made.public_bytes(Encoding.PEM))
        self._say(f"{role.common_name}: issued ({missing}) {_describe(made)}")
        return made

    def _outdated(self, role: Role, kept: x509.Certificate, issuer: x509.Certificate | None) -> str:
        """Why a certificate must be issued anew; "" when it need not be."""
        try:
            kept.verify_directly_issued_by(issuer or kept)
        except (ValueError, TypeError, InvalidSignature):
            return "its issuer is another"
        if kept.not_valid_after_utc - role.renewed_before <= self._now:
            return "it runs out"
        signer = issuer or kept
        wanted = profiles.extensions(
            role.profile,
            self._practice,
            Issuer(signer.subject, authority.public_key_of(signer)),
            authority.public_key_of(kept),
        )
        if list(kept.extensions) != wanted:
            return "its profile has changed"
        if role is not ROOT and not self._is_of_the_token(role, kept):
            return "its key is another"
        return ""

    def _issue(self, role: Role, key: PrivateKey, name: x509.Name, issuer: x509.Certificate | None) -> x509.Certificate:
        """Lint and sign."""
        issuer_key = self._issuer_key(role)
        unsigned = profiles.builder(
            role.profile,
            self._practice,
            Issuer(issuer.subject if issuer else name, issuer_key.public_key()),
            name,
            key.public_key(),
            serial=profiles.serial_number(self._random_bytes(SERIAL_BYTES)),
            now=self._now,
            not_after=issuer.not_valid_after_utc if issuer else None,
        )
        signing = authority.signing_of(issuer_key.public_key(), self._scheme)
        if issuer is not None:
            lint.linted_copy(lambda throw_away: signing.sign_built(unsigned, throw_away), signing)
        signed = signing.sign_built(unsigned, issuer_key)
        signed.verify_directly_issued_by(issuer or signed)
        # The lint verifies what signs itself, so the root can only be linted as it is; nobody has it yet.
        lint.require_clean(signed)
        return signed

    def _root_crl(self, root: x509.Certificate | None) -> None:
        kept = self._read_root_crl()
        root_key = authority.public_key_of(root) if root is not None else None
        if kept is not None and root_key is not None and kept.is_signature_valid(root_key):
            ends = kept.next_update_utc or self._now
            if self._now < ends - ROOT_CRL_LIFETIME / 2:
                self._say(f"Root CRL: kept number {_crl_number(kept)}, next update {ends:%Y-%m-%d}")
                return
        if self._dry_run or root is None:
            self._say("Root CRL: would issue one")
            self._steps.append("Root CRL: issue the next one")
            return
        # Seconds count on, even when the folder is lost and the last number with it.
        number = max(int(self._now.timestamp()), _crl_number(kept) + 1 if kept is not None else 0)
        at = self._now.replace(microsecond=0)
        builder = (
            x509.CertificateRevocationListBuilder(root.subject, at, at + ROOT_CRL_LIFETIME)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key_of(root)), critical=False
            )
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for entry in kept or ():
            builder = builder.add_revoked_certificate(entry)
        key = self._issuer_key(ROOT)
        signed = authority.signing_of(key.public_key(), self._scheme).sign_built(builder, key)
        if not signed.is_signature_valid(authority.public_key_of(root)):
            raise CeremonyError(f"root.pem is not of the token's key {authority.ROOT_KEY}")
        self._write(authority.ROOT_CRL_FILE, signed.public_bytes(Encoding.DER))
        self._say(f"Root CRL: issued number {number}, next update {at + ROOT_CRL_LIFETIME:%Y-%m-%d}")

    # Tokens

    def _token_of(self, role: Role) -> Token:
        if role is not ROOT:
            return self._token
        if self._root_token is None:
            self._root_token = self._open_root_token()
            self._announce(self._root_token, "root's")
        return self._root_token

    def _has_key(self, role: Role) -> bool:
        return self._token_of(role).has_key_pair(role.key_label)

    def _is_of_the_token(self, role: Role, certificate: x509.Certificate) -> bool:
        if not self._has_key(role):
            return False
        return certificate.public_key() == _private_key(self._token_of(role), role).public_key()

    def _key(self, role: Role) -> PrivateKey:
        """The role's key, generated if the token has none."""
        token = self._token_of(role)
        if not token.has_key_pair(role.key_label):
            algorithm = self._algorithms[role]
            public_key_der = token.generate_key_pair(role.key_label, algorithm)
            self._say(
                f"{role.common_name}: generated {algorithm.value} key {role.key_label}, {_sha256(public_key_der)}"
            )
        return _private_key(token, role)

    def _issuer_key(self, role: Role) -> PrivateKey:
        issuer = ROOT if role in (ROOT, ISSUING) else ISSUING
        return _private_key(self._token_of(issuer), issuer)

    def _announce(self, token: Token, whose: str) -> None:
        if token.is_development_token:
            self._say(f"WARNING: the {whose} token is {token.model}, a development token and no certified device")

    # Files

    def _subject(self, role: Role) -> x509.Name:
        return subject.of_authority(self._organization, f"{self._organization} {role.common_name}")

    def _read(self, file: str) -> x509.Certificate | None:
        path = self._folder / file
        return x509.load_pem_x509_certificate(path.read_bytes()) if path.exists() else None

    def _read_root_crl(self) -> x509.CertificateRevocationList | None:
        path = self._folder / authority.ROOT_CRL_FILE
        return x509.load_der_x509_crl(path.read_bytes()) if path.exists() else None

    def _write(self, file: str, content: bytes) -> None:
        """Replace a file whole: who reads it sees the old one or the new one."""
        path = self._folder / file
        if self._dry_run or (path.exists() and path.read_bytes() == content):
            return
        draft = path.with_name(f".{path.name}.new")
        with draft.open("wb") as file_object:
            file_object.write(content)
            file_object.flush()
            os.fsync(file_object.fileno())
        draft.chmod(0o644)
        draft.replace(path)

    def _say(self, line: str) -> None:
        stamped = f"{self._now:%Y-%m-%dT%H:%M:%SZ} {line}"
        self._lines.append(stamped)
        self._say_line(stamped)

    def _keep_transcript(self) -> None:
        if not self._dry_run:
            with (self._folder / TRANSCRIPT_FILE).open("a", encoding="utf-8") as transcript:
                transcript.writelines(f"{line}\n" for line in self._lines)


def _private_key(token: Token, role: Role) -> PrivateKey:
    """The role's key, of whatever kind it is. Raises TokenKeyMissingError."""
    algorithm = KeyAlgorithm.of(token.public_key_der(role.key_label))
    return token.rsa_private_key(role.key_label) if algorithm.rsa_bits else token.private_key(role.key_label)


def _sha256(data: bytes) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return f"sha256 {digest.finalize().hex()}"


def _describe(certificate: x509.Certificate) -> str:
    return (
        f"serial {certificate.serial_number:040x}, until {certificate.not_valid_after_utc:%Y-%m-%d}, "
        f"{_sha256(certificate.public_bytes(Encoding.DER))}"
    )


def _crl_number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def main(words: Sequence[str] | None = None) -> None:
    """Run the ceremony."""
    parser = argparse.ArgumentParser(
        prog="python -m services.ca.ceremony",
        description=(__doc__ or "").partition("\n")[0] + " Production: two operators confirm the plan."
        " Sandbox: the PINs' holder may do it alone.",
    )
    ceremony_tool.add_arguments(parser)
    told = ceremony_tool.given(parser.parse_args(words))
    settings = CeremonySettings.load()
    try:
        _hold(settings, told)
    except (AuthorityError, CeremonyError, CeremonyRefusedError, FinIdError, OSError, ValueError) as error:
        sys.exit(f"the ceremony stopped: {error}")


def _hold(settings: CeremonySettings, told: ceremony_tool.Given) -> None:
    """Look what is to be done, and do that and nothing else, once it is planned and confirmed."""
    open_writable = partial(open_token, settings.pkcs11_module, writable=not told.dry_run)
    token = open_writable(settings.token_label, settings.token_pin_file)
    say: Callable[[str], None] = partial(print, flush=True)
    make = partial(
        Ceremony,
        folder=settings.ca_pki_folder,
        practice=settings.practice,
        organization=settings.ca_organization,
        open_root_token=lambda: open_writable(settings.ca_root_token_label, settings.ca_root_token_pin_file),
        token=token,
        now=datetime.now(UTC),
        random_bytes=secrets.token_bytes,
        algorithms={
            ROOT: settings.ca_root_algorithm,
            ISSUING: settings.ca_issuing_algorithm,
            OCSP: settings.ca_ocsp_algorithm,
            TSA: settings.ca_tsa_algorithm,
        },
        scheme=settings.ca_rsa_scheme,
    )
    rehearsal = make(say=say if told.dry_run else lambda _: None, dry_run=True)
    rehearsal.run()
    if not rehearsal.steps:
        # Nothing that anybody would have to confirm: whoever repeats it regularly needs nobody.
        if not told.dry_run:
            make(say=say).run()
        return
    occasion = Occasion(
        "services.ca.ceremony",
        f"{settings.env}, token {settings.token_label} (serial {token.serial}), folder {settings.ca_pki_folder}",
        rehearsal.steps,
        (
            f"organisation {settings.ca_organization}, policy arc {settings.ca_policy_arc}",
            f"published at {settings.ca_pki_url}",
            f"root's token {settings.ca_root_token_label}",
        ),
    )
    around = Around(settings.env == "production", say, lambda: int(time.time()), secrets.token_bytes)
    if told.dry_run:
        ceremony_tool.write_plan(told, occasion, around)
        return
    with ceremony_tool.sitting(told, occasion, around) as recorder:
        make(say=recorder.say).run()


if __name__ == "__main__":
    main()
