"""Backup of wrapped keys: one signed, sealed file; and restoring it without bringing a key back to life.

The file is lines of text: a header, one sealed line for each credential, and a last line with their count, the SHA-256
of all lines before it, and a signature by the signer's receipt key, which the pins know. What the lines seal
(AES-256-GCM under a key of the backup's own, bound to backup and line) names nobody; its keyed hashes of person and
phone are personal data all the same. The blobs are useless without the token, which is backed up by its maker's means.

A backup is old when it is needed: who revoked or suspended a key since then is not in it. So states only move towards
the stricter one (`decide`), and what was in use comes back SUSPENDED: its person resumes it, with two factors.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mesh import base64url, strict_json
from mesh.facts import Factor
from mesh.hsm import Token, TokenKeyMissingError, WrappedKey, WrappedKeyRefusedError
from mesh.pins import Pins, key_id
from mesh.pseudonyms import stamp_of
from mesh.receipts import ReceiptSigner
from mesh.sealing import FieldKeys, Seal, SealBrokenError, derive
from mesh.strict_json import StrictJsonError
from services.signer.credential import Credential, CredentialRefusedError, Ending, State, require_attested
from services.signer.lifting import Lifting
from services.signer.subject_keys import all_verify

_FORMAT = "finid-signer-keys-2"
# Before the key of the pseudonyms could be replaced: of the one that there was.
_EARLIER_FORMAT = "finid-signer-keys-1"
# First bytes that no receipt, plan or transcript of the same key has.
_SIGNED = b"finid-signer-keys-backup-v1\0"
_COLUMN = "signer.credentials"
_SEAL_LABEL = "signer-keys-backup"
_ID_BYTES = 16
_MAX_LINE_BYTES = 64 * 1024
# What a key signs before it is put back, to prove that it opens: no transaction, no document begins like this.
_PROOF = b"finid-restored-key-v1\0"
_TIMES = ("created_at", "activatable_from", "activated_at", "not_after", "suspended_at", "disabled_at", "destroyed_at")
_BY_PERSON = "PERSON"
# What a key that was lost comes back as.
_COMES_BACK = {State.PENDING: State.REVOKED, State.ACTIVE: State.SUSPENDED}
_STRICTNESS = {State.PENDING: 0, State.ACTIVE: 1, State.SUSPENDED: 2, State.REVOKED: 3, State.DESTROYED: 4}


class BackupRefusedError(Exception):
    """The file is not a backup of this signer, or was changed; says why. Nothing was restored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One row of signer.credentials, whole. Times that a row does not have are None."""

    credential: str
    txn: bytes
    request_id: str
    state: State
    subject_hmac: bytes
    phone_hmac: bytes
    public_key_der: bytes
    wrapped_key: bytes = field(repr=False)
    csr_der: bytes
    key_attestation: str = field(repr=False)
    superseded: str
    certificate_sha256: bytes
    created_at: datetime
    activatable_from: datetime
    activated_at: datetime | None
    not_after: datetime | None
    suspended_at: datetime | None
    disabled_at: datetime | None
    ending: str
    destroyed_at: datetime | None
    destruction_proof: str
    photo_hmac: bytes
    suspended_by: str
    profile: str
    policy: str


@dataclass(frozen=True, slots=True)
class _Header:
    """`kids` are the names of the keys under which the pseudonyms stand, as `mesh.pseudonyms` writes them; '' before
    that was written down: of the first key.
    """

    format: str
    env: str
    backup: bytes
    made_at: int
    kids: str


@dataclass(frozen=True, slots=True)
class _EarlierHeader:
    format: str
    env: str
    backup: bytes
    made_at: int


@dataclass(frozen=True, slots=True)
class _Trailer:
    keys: int
    sha256: bytes
    kid: str
    signature: bytes


async def write(
    file: BinaryIO,
    records: AsyncIterable[KeyRecord],
    *,
    key: bytes,
    kids: str,
    attester: ReceiptSigner,
    made_at: datetime,
    random_bytes: Callable[[int], bytes],
) -> tuple[int, bytes]:
    """Write a backup sealed under `key` (32 bytes); return how many keys it holds and the SHA-256 it is signed by.

    `kids` says under which keys the records' pseudonyms stand, '' when nothing says it.
    """
    digest, count = hashlib.sha256(), 0
    header = _Header(_FORMAT, attester.env.value, random_bytes(_ID_BYTES), int(made_at.timestamp()), kids)
    seal = Seal(derive(key, _SEAL_LABEL))

    def put(line: bytes) -> None:
        digest.update(line + b"\n")
        file.write(line + b"\n")

    put(strict_json.canonical(header))
    async for record in records:
        sealed = seal.seal(_encode(record), column=_COLUMN, row=_line_name(header, count))
        put(base64url.encode(sealed).encode("ascii"))
        count += 1
    signature = attester.key.sign(_SIGNED + digest.digest())
    trailer = _Trailer(count, digest.digest(), key_id(attester.public_key), signature)
    file.write(strict_json.canonical(trailer) + b"\n")
    return count, digest.digest()


class Backup:
    """A file that `write` made, checked whole before anything in it is read."""

    def __init__(self, path: Path, *, key: bytes, pins: Pins) -> None:
        """Check length, digest and signature.

        Raises BackupRefusedError for a file of another signer or environment, a changed, cut or extended one; OSError.
        """
        self._path = path
        self._seal = Seal(derive(key, _SEAL_LABEL))
        digest, lines, last = hashlib.sha256(), 0, b""
        header = b""
        with path.open("rb") as file:
            for line in _lines(file):
                if last:
                    digest.update(last)
                header, last, lines = header or line, line, lines + 1
        try:
            self._header = _read_header(header)
            trailer = strict_json.read(_Trailer, strict_json.parse(last, max_bytes=_MAX_LINE_BYTES))
        except StrictJsonError as error:
            raise BackupRefusedError(f"the file is no whole backup: {error}") from error
        if self._header.env != pins.env.value:
            raise BackupRefusedError("the backup is of another environment")
        self.keys, self.sha256, self.made_at = trailer.keys, trailer.sha256, self._header.made_at
        if trailer.sha256 != digest.digest() or trailer.keys != lines - 2:
            raise BackupRefusedError("the backup was changed")
        pin = pins.find(trailer.kid, Factor.KEY_ATTESTATION)
        if pin is None or not pin.not_before <= self.made_at <= pin.not_after:
            raise BackupRefusedError("the backup is signed by a key that is not pinned, or was not then")
        if not pin.confirms(trailer.signature, _SIGNED + trailer.sha256):
            raise BackupRefusedError("the backup's signature is not of its key")

    def made_under(self, keys: FieldKeys) -> int:
        """Return how many of the keys, the oldest first, made the pseudonyms. Raises BackupRefusedError."""
        kids = tuple(self._header.kids.split()) or keys.kids[:1]
        if keys.kids[: len(kids)] != kids:
            raise BackupRefusedError(
                f"the backup is of the keys {' '.join(kids)}, and {' '.join(keys.kids)} are given, the oldest first"
            )
        return len(kids)

    def records(self) -> Iterator[KeyRecord]:
        """Open the lines, in their order. Raises BackupRefusedError when the key is another; OSError."""
        digest = hashlib.sha256()
        with self._path.open("rb") as file:
            for number, line in enumerate(_lines(file)):
                if number > self.keys:
                    break
                digest.update(line)
                if number:
                    yield self._open(line, number - 1)
        if digest.digest() != self.sha256:
            raise BackupRefusedError("the backup changed while it was read")

    def _open(self, line: bytes, number: int) -> KeyRecord:
        try:
            sealed = base64url.decode(line.decode("ascii").removesuffix("\n"))
            return _decode(self._seal.open(sealed, column=_COLUMN, row=_line_name(self._header, number)))
        except (SealBrokenError, ValueError) as error:
            raise BackupRefusedError("the backup does not open with this key") from error


def decide(
    backed: KeyRecord, found: KeyRecord | None, *, found_is_attested: bool, is_revoked: bool, at: datetime
) -> KeyRecord | None:
    """Return what the row must be, None when it may stay as it is.

    `found` is the row there is. It stays, and becomes at most stricter, if it `found_is_attested` and has not fallen
    back to PENDING. Otherwise it is damaged, or there is none, and the backup's takes its place: what was in use then
    is SUSPENDED, what waited for its certificate is cancelled. `is_revoked`: it was revoked since, as others know.
    """
    if found is not None and found.state is State.DESTROYED:
        return None
    if backed.state is State.DESTROYED:
        return backed
    fell_back = found is not None and found.state is State.PENDING and backed.state is not State.PENDING
    if found is not None and found_is_attested and not fell_back:
        made = _at_least(found, backed.state, at, ending=backed.ending, by=backed.suspended_by or _BY_PERSON)
    else:
        made = _at_least(backed, _COMES_BACK.get(backed.state, backed.state), at)
        if found is not None:
            made = _at_least(made, found.state, at, ending=found.ending, by=found.suspended_by or _BY_PERSON)
    if is_revoked:
        made = _at_least(made, State.REVOKED, at)
    return None if made == found else made


def _at_least(record: KeyRecord, state: State, at: datetime, *, ending: str = "", by: str = _BY_PERSON) -> KeyRecord:
    """The record, made stricter if it must be; `ending` says why it is over, `by` who may resume it."""
    if _STRICTNESS[state] <= _STRICTNESS[record.state] or state is State.ACTIVE:
        return record
    if state is State.SUSPENDED:
        return replace(record, state=state, suspended_at=at, suspended_by=by)
    why = Ending.CANCELLED if record.state is State.PENDING else Ending(ending or Ending.REVOKED)
    return replace(record, state=State.REVOKED, ending=why.value, disabled_at=at, suspended_at=None)


class RestoredRows(Protocol):
    """The record of credentials, as restoring sees it."""

    async def record(self, name: str) -> KeyRecord | None:
        """Return a credential's whole row."""
        ...

    async def stamped(self) -> str | None:
        """Return under which keys pseudonyms stand (`mesh.pseudonyms`), None when nothing says it."""
        ...

    async def is_empty(self) -> bool:
        """Tell whether there is no row at all."""
        ...

    async def stamp(self, kids: str) -> None:
        """Say under which keys pseudonyms stand, where nothing does."""
        ...

    async def is_revoked(self, certificate_sha256: bytes) -> bool:
        """Tell whether an order that was kept here has revoked a certificate."""
        ...

    async def put_back(self, record: KeyRecord, kids: str) -> bool:
        """Add a row that is not there; False, changing nothing, when its name or transaction has one, or pseudonyms
        stand under other keys than `kids` (as `stamped` says it, '' for nothing).
        """
        ...

    async def repair(self, found: KeyRecord, record: KeyRecord, at: datetime, kids: str) -> bool:
        """Make the row what `record` says; False, changing nothing, when it is not as it was `found`, or `kids` are not
        those of now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Restored:
    """How many rows stayed, came back, were repaired, were made stricter; why others could not be, by credential."""

    unchanged: int
    put_back: int
    repaired: int
    stricter: int
    failures: Mapping[str, str]


class Restore:
    """Puts a backup's keys back where they are missing or damaged. A repeat changes nothing."""

    def __init__(
        self,
        *,
        rows: RestoredRows,
        token: Token,
        pins: Pins,
        keys: FieldKeys,
        lifting: Lifting,
        revoked_sha256: Collection[bytes],
        now: Callable[[], datetime],
        say: Callable[[str], None],
        dry_run: bool,
    ) -> None:
        """`keys` are those of the pseudonyms, and `lifting` moves to them what stands under fewer.

        `revoked_sha256`: certificates revoked since, as the CA tells. `say` takes lines of what is done.
        """
        self._rows = rows
        self._token = token
        self._pins = pins
        self._keys = keys
        self._lifting = lifting
        self._revoked_sha256 = revoked_sha256
        self._now = now
        self._say = say
        self._dry_run = dry_run
        self._counts = Counter[str]()
        self._failures: dict[str, str] = {}
        self._kids = ""

    async def run(self, backup: Backup) -> Restored:
        """Go through the backup.

        Raises BackupRefusedError, LiftingRefusedError, TokenError, DependencyUnavailableError.
        """
        since = backup.made_under(self._keys)
        if since < len(self._keys.keys):
            self._lifting.require_believed()
        await self._require_keys()
        for record in backup.records():
            why = await self._restore(record, since)
            if why:
                self._failures[record.credential] = why
                self._say(f"{record.credential}: {why}")
        counts = self._counts
        return Restored(
            counts["unchanged"], counts["put back"], counts["repaired"], counts["stricter"], dict(self._failures)
        )

    async def _require_keys(self) -> None:
        """Refuse to mix rows of different keys; an empty record takes those that are given."""
        given, stamped = stamp_of(self._keys), await self._rows.stamped()
        if stamped is None and await self._rows.is_empty():
            if not self._dry_run:
                await self._rows.stamp(given)
            self._kids = given
            return
        if (stamped or self._keys.kids[0]) != given:
            raise BackupRefusedError(
                f"the rows stand under the keys {stamped or 'of before they had names'}, and {given} are given, the "
                "oldest first: give those that the rows stand under, all of them and in that order"
            )
        self._kids = stamped or ""

    async def _restore(self, backed: KeyRecord, since: int) -> str:
        """Restore one key, whose pseudonyms the first `since` keys made; say why that is refused, '' when it is not."""
        if not is_attested(backed, self._pins):
            return "the backup's own record is not as it was attested"
        if since < len(self._keys.keys):
            try:
                backed = _lifted(backed, self._lifting, since)
            except CredentialRefusedError:
                return "the backup's own record is not as it was attested"
        found = await self._rows.record(backed.credential)
        made = decide(
            backed,
            found,
            found_is_attested=found is not None and is_attested(found, self._pins),
            is_revoked=backed.certificate_sha256 in self._revoked_sha256
            or await self._rows.is_revoked(backed.certificate_sha256),
            at=self._now(),
        )
        if made is None:
            self._counts["unchanged"] += 1
            return ""
        is_new_blob = found is None or found.wrapped_key != made.wrapped_key
        if is_new_blob and not self._opens(made):
            return "the token does not open the backup's blob, or it is of another key"
        if not self._dry_run:
            changed = await (
                self._rows.put_back(made, self._kids)
                if found is None
                else self._rows.repair(found, made, self._now(), self._kids)
            )
            if not changed:
                return "another row has its transaction, or the row changed meanwhile: repeat"
        what = "put back" if found is None else "repaired" if is_new_blob or not _same_key(found, made) else "stricter"
        self._counts[what] += 1
        self._say(f"{made.credential}: {what}, {made.state.value}")
        return ""

    def _opens(self, record: KeyRecord) -> bool:
        """Whether the token signs with the blob what the row's public key verifies: bytes of no use to anybody."""
        if record.state is State.DESTROYED:
            return True
        proof = hashlib.sha256(_PROOF + record.txn + record.wrapped_key).digest()
        try:
            signatures = self._token.sign_with_wrapped(WrappedKey.from_bytes(record.wrapped_key), [proof])
        except (WrappedKeyRefusedError, TokenKeyMissingError):
            return False
        return all_verify(record.public_key_der, [proof], signatures)


def is_attested(record: KeyRecord, pins: Pins) -> bool:
    """Tell whether a row is what the signer attested; of a destroyed key there is nothing left to ask."""
    if record.state is State.DESTROYED:
        return True
    try:
        require_attested(_credential_of(record), pins)
    except CredentialRefusedError:
        return False
    return True


def _lifted(record: KeyRecord, lifting: Lifting, since: int) -> KeyRecord:
    made = lifting.lifted(_credential_of(record), since)
    return replace(
        record,
        subject_hmac=made.subject_hmac,
        phone_hmac=made.phone_hmac,
        photo_hmac=made.photo_hmac,
        key_attestation=made.key_attestation,
    )


def _same_key(one: KeyRecord, other: KeyRecord) -> bool:
    return (one.wrapped_key, one.key_attestation, one.public_key_der, one.subject_hmac, one.phone_hmac, one.txn) == (
        other.wrapped_key,
        other.key_attestation,
        other.public_key_der,
        other.subject_hmac,
        other.phone_hmac,
        other.txn,
    )


def _credential_of(record: KeyRecord) -> Credential:
    return Credential(
        name=record.credential,
        txn=record.txn,
        request_id=record.request_id,
        state=record.state,
        subject_hmac=record.subject_hmac,
        phone_hmac=record.phone_hmac,
        public_key_der=record.public_key_der,
        wrapped_key=record.wrapped_key,
        csr_der=record.csr_der,
        key_attestation=record.key_attestation,
        superseded=record.superseded,
        activatable_from=record.activatable_from,
        certificate_sha256=record.certificate_sha256,
        not_after=record.not_after,
        ending=record.ending,
        destruction_proof=record.destruction_proof,
        photo_hmac=record.photo_hmac,
        suspended_by=record.suspended_by,
        profile=record.profile,
        policy=record.policy,
    )


def _encode(record: KeyRecord) -> bytes:
    form = {item.name: getattr(record, item.name) for item in fields(record)}
    # Times in full, '' for none: what a JSON number holds exactly ends before the year 9999 in microseconds.
    form |= {name: form[name].astimezone(UTC).isoformat() if form[name] else "" for name in _TIMES}
    return strict_json.canonical(form)


def _decode(line: bytes) -> KeyRecord:
    kinds = {item.name: item.type for item in fields(KeyRecord)}
    found = strict_json.members(strict_json.parse(line, max_bytes=_MAX_LINE_BYTES), frozenset(kinds))
    made: dict[str, Any] = {}
    for name, kind in kinds.items():
        if kind is bytes:
            made[name] = strict_json.octets(found[name], name)
        elif kind is State:
            made[name] = strict_json.member(State, found[name], name)
        else:
            text = strict_json.string(found[name], name)
            made[name] = (datetime.fromisoformat(text) if text else None) if name in _TIMES else text
    return KeyRecord(**made)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_MAX_LINE_BYTES):
        if not line.endswith(b"\n"):
            raise BackupRefusedError("the backup is cut, or no backup")
        yield line


def _read_header(line: bytes) -> _Header:
    """Read the header of a backup of this format, or of the one before. Raises BackupRefusedError, StrictJsonError."""
    found = strict_json.parse(line, max_bytes=_MAX_LINE_BYTES)
    if isinstance(found, dict) and "kids" not in found:
        earlier = strict_json.read(_EarlierHeader, found)
        header, expected = _Header(earlier.format, earlier.env, earlier.backup, earlier.made_at, ""), _EARLIER_FORMAT
    else:
        header, expected = strict_json.read(_Header, found), _FORMAT
    if header.format != expected:
        raise BackupRefusedError("the backup is of another format")
    return header


def _line_name(header: _Header, number: int) -> str:
    return f"{header.backup.hex()}:{number}"
