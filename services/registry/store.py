"""All of the registry's SQL: the sandbox's people, releases, inquiries."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from mesh import strict_json
from mesh.errors import DependencyUnavailableError
from mesh.postgres import Database, Row, Transaction
from mesh.rekeying import Column, Say, move_columns
from mesh.resealing import SealedColumn
from mesh.sealing import FieldKeys, Seal
from mesh.transaction import Purpose
from services.registry.attestation import InquiryLimitError
from services.registry.locator import Locator
from services.registry.release import Answer, Record
from services.registry.source import IdentityDocument, Person, SourceUnavailableError, TrustedPhone, UnknownIinError

FIELD_LABEL = "registry-field"
PSEUDONYM_TABLES = ("registry.people", "registry.inquiries")
_MAX_ANSWER_BYTES = 64 * 1024
_ANSWER_COLUMN = "releases.sealed_answer"
_PERSON_COLUMNS = (
    "family_name",
    "given_name",
    "patronymic",
    "family_name_latin",
    "given_name_latin",
    "birth_date",
    "document_kind",
    "document_number",
    "document_issue_date",
    "document_expiry_date",
    "phone",
    "phone_since",
    "photo_jpeg",
)


class SandboxPeople:
    """A state source over the sandbox's own people. See `StateSource`."""

    def __init__(self, database: Database, seal: Seal, locator: Locator) -> None:
        self._database = database
        self._seal = seal
        self._locator = locator

    _PERSON = """
        SELECT family_name, given_name, patronymic, family_name_latin, given_name_latin, birth_date,
               document_kind, document_number, document_issue_date, document_expiry_date
        FROM registry.people WHERE iin_hmac = $1"""

    async def person(self, iin: str) -> Person:
        """Return the names, birth date and document."""
        value = await self._open(self._PERSON, iin)
        return Person(
            family_name=value["family_name"].decode(),
            given_name=value["given_name"].decode(),
            patronymic=value["patronymic"].decode(),
            family_name_latin=value["family_name_latin"].decode(),
            given_name_latin=value["given_name_latin"].decode(),
            birth_date=value["birth_date"].decode(),
            document=IdentityDocument(
                kind=value["document_kind"].decode(),
                number=value["document_number"].decode(),
                issue_date=value["document_issue_date"].decode(),
                expiry_date=value["document_expiry_date"].decode(),
            ),
        )

    _TRUSTED_PHONE = "SELECT phone, phone_since FROM registry.people WHERE iin_hmac = $1"

    async def trusted_phone(self, iin: str) -> TrustedPhone | None:
        """Return the trusted phone, None for a person without one."""
        value = await self._open(self._TRUSTED_PHONE, iin)
        if not value["phone"]:
            return None
        return TrustedPhone(value["phone"].decode(), int(value["phone_since"]))

    _REFERENCE_PHOTO = "SELECT photo_jpeg FROM registry.people WHERE iin_hmac = $1"

    async def reference_photo(self, iin: str) -> bytes:
        """Return the JPEG."""
        return (await self._open(self._REFERENCE_PHOTO, iin))["photo_jpeg"]

    async def _open(self, sql: str, iin: str) -> Mapping[str, bytes]:
        row_key = self._locator.of(iin)
        try:
            row = await self._database.one(sql, row_key)
        except DependencyUnavailableError as error:
            raise SourceUnavailableError("The state source does not answer.", retry_after_s=1.0) from error
        if row is None:
            raise UnknownIinError("The state source knows nobody with this IIN.")
        return {
            column: self._seal.open(sealed, column=f"people.{column}", row=row_key.hex())
            for column, sealed in row.items()
        }


class SandboxRegister:
    """Writes the sandbox's people, under the owner's role."""

    def __init__(self, database: Database, seal: Seal, locator: Locator) -> None:
        self._database = database
        self._seal = seal
        self._locator = locator

    _PUT = """
        INSERT INTO registry.people (
            iin_hmac, family_name, given_name, patronymic, family_name_latin, given_name_latin, birth_date,
            document_kind, document_number, document_issue_date, document_expiry_date, phone, phone_since, photo_jpeg
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (iin_hmac) DO UPDATE SET
            family_name = EXCLUDED.family_name, given_name = EXCLUDED.given_name, patronymic = EXCLUDED.patronymic,
            family_name_latin = EXCLUDED.family_name_latin, given_name_latin = EXCLUDED.given_name_latin,
            birth_date = EXCLUDED.birth_date, document_kind = EXCLUDED.document_kind,
            document_number = EXCLUDED.document_number, document_issue_date = EXCLUDED.document_issue_date,
            document_expiry_date = EXCLUDED.document_expiry_date, phone = EXCLUDED.phone,
            phone_since = EXCLUDED.phone_since, photo_jpeg = EXCLUDED.photo_jpeg"""

    async def put(self, iin: str, values: Mapping[str, bytes]) -> None:
        """Put a person's values, one for each column, over what was there. Raises KeyError when one is missing."""
        row_key = self._locator.of(iin)
        await self._database.run(self._PUT, row_key, *_sealed_person(self._seal, values, row_key))


def _sealed_person(seal: Seal, values: Mapping[str, bytes], row_key: bytes) -> list[bytes]:
    return [seal.seal(values[column], column=f"people.{column}", row=row_key.hex()) for column in _PERSON_COLUMNS]


class PeopleMoving:
    """Moves the rows about people to newer field keys, under the owner's role; for `services.registry.rekey`.

    A person's values are sealed for the place of the row, so they are sealed anew with the move.
    """

    def __init__(self, keys: FieldKeys, say: Say) -> None:
        self._seal = keys.seal(FIELD_LABEL)
        self._locator = Locator(*keys.keys)
        self._say = say

    async def move(self, transaction: Transaction, since: int) -> int:
        """Move every row that stands where the first `since` keys put it; return how many."""
        moved = await self._move_people(transaction, since)
        self._say(f"registry.people: {moved} rows")
        return moved + await move_columns(
            transaction,
            [Column("registry.inquiries", "iin_hmac")],
            lambda row_key: self._locator.lifted(row_key, since),
            self._say,
        )

    _PLACES = "SELECT iin_hmac FROM registry.people"
    _PERSON = """
        SELECT family_name, given_name, patronymic, family_name_latin, given_name_latin, birth_date, document_kind,
               document_number, document_issue_date, document_expiry_date, phone, phone_since, photo_jpeg
        FROM registry.people WHERE iin_hmac = $1"""
    _MOVE = """
        UPDATE registry.people SET
            iin_hmac = $2, family_name = $3, given_name = $4, patronymic = $5, family_name_latin = $6,
            given_name_latin = $7, birth_date = $8, document_kind = $9, document_number = $10,
            document_issue_date = $11, document_expiry_date = $12, phone = $13, phone_since = $14, photo_jpeg = $15
        WHERE iin_hmac = $1"""

    async def _move_people(self, transaction: Transaction, since: int) -> int:
        moved = 0
        # All places first: a row that has moved would be met again by whoever goes along the index.
        for place in await transaction.all(self._PLACES):
            was: bytes = place["iin_hmac"]
            row = await transaction.one(self._PERSON, was)
            if row is None:
                continue
            values = {
                column: self._seal.open(sealed, column=f"people.{column}", row=was.hex())
                for column, sealed in row.items()
            }
            now = self._locator.lifted(was, since)
            moved += await transaction.run(self._MOVE, was, now, *_sealed_person(self._seal, values, now))
        return moved


_PAGE_OF_ANSWERS = """
    SELECT encode(txn, 'hex') AS key, sealed_answer AS sealed FROM registry.releases
    WHERE txn > decode($1, 'hex') AND sealed_answer IS NOT NULL ORDER BY txn LIMIT $2"""
_REPLACE_ANSWERS = """
    WITH free AS (
        SELECT txn FROM registry.releases
        WHERE txn IN (SELECT decode(key, 'hex') FROM unnest($1::text[]) AS key)
        FOR UPDATE SKIP LOCKED
    )
    UPDATE registry.releases AS r SET sealed_answer = new.sealed
    FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS new (key, was, sealed)
    JOIN free ON free.txn = decode(new.key, 'hex')
    WHERE r.txn = free.txn AND r.sealed_answer = new.was"""
SEALED_COLUMNS = (
    SealedColumn(
        name="registry.releases.sealed_answer",
        label=FIELD_LABEL,
        column=_ANSWER_COLUMN,
        row=lambda row: row["key"],
        page=_PAGE_OF_ANSWERS,
        replace=_REPLACE_ANSWERS,
    ),
)


class ReleaseStore:
    """Releases, their answers sealed. See `release.Releases`."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    _FIND = """
        SELECT txn, request_id, purpose, released_at, expires_at, sealed_answer
        FROM registry.releases WHERE txn = $1"""

    async def find(self, txn: bytes) -> Record | None:
        """Return the release of a transaction."""
        row = await self._database.one(self._FIND, txn)
        return None if row is None else self._record(row)

    _ADD = """
        INSERT INTO registry.releases (txn, request_id, purpose, released_at, expires_at, sealed_answer)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (txn) DO NOTHING"""

    async def add(self, record: Record) -> bool:
        """Record a release; False when its transaction has one."""
        answer = strict_json.canonical(strict_json.write(record.answer))
        added = await self._database.run(
            self._ADD,
            record.txn,
            record.request_id,
            record.purpose.value,
            record.released_at,
            record.expires_at,
            self._seal.seal(answer, column=_ANSWER_COLUMN, row=record.txn.hex()),
        )
        return added == 1

    _FORGET = """
        UPDATE registry.releases SET sealed_answer = NULL
        WHERE sealed_answer IS NOT NULL AND expires_at <= $1"""

    async def forget(self, now: datetime) -> None:
        """Erase the answers of transactions that have expired."""
        await self._database.run(self._FORGET, now)

    def _record(self, row: Row) -> Record:
        answer = None
        if row["sealed_answer"] is not None:
            opened = self._seal.open(row["sealed_answer"], column=_ANSWER_COLUMN, row=row["txn"].hex())
            answer = strict_json.read(Answer, strict_json.parse(opened, max_bytes=_MAX_ANSWER_BYTES))
        return Record(
            txn=row["txn"],
            request_id=row["request_id"],
            purpose=Purpose(row["purpose"]),
            released_at=row["released_at"],
            expires_at=row["expires_at"],
            answer=answer,
        )


class InquiryStore:
    """Inquiries of the last hour, by keyed hash of the IIN. See `attestation.Inquiries`."""

    def __init__(self, database: Database, locator: Locator, *, max_per_hour: int) -> None:
        if max_per_hour < 1:
            raise ValueError("max_per_hour must be 1 or more")
        self._database = database
        self._locator = locator
        self._max_per_hour = max_per_hour

    # The times within the window are counted and the new one added in one statement, under the row's lock.
    _COUNT = """
        INSERT INTO registry.inquiries AS known (iin_hmac, asked_at) VALUES ($1, ARRAY[$2::timestamptz])
        ON CONFLICT (iin_hmac) DO UPDATE
        SET asked_at = ARRAY(SELECT earlier FROM unnest(known.asked_at) AS earlier WHERE earlier > $3) || $2
        WHERE (SELECT count(*) FROM unnest(known.asked_at) AS earlier WHERE earlier > $3) < $4"""
    _WINDOW = timedelta(hours=1)

    async def count(self, iin: str, now: datetime) -> None:
        """Count one inquiry. Raises InquiryLimitError."""
        counted = await self._database.run(
            self._COUNT, self._locator.of(iin), now, now - self._WINDOW, self._max_per_hour
        )
        if counted == 0:
            raise InquiryLimitError("Too many requests about this person lately.", retry_after_s=60.0)
