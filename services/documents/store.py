"""The rows of this room in PostgreSQL; all its SQL. Every state change is one guarded statement."""

from collections.abc import Sequence
from datetime import datetime

from mesh.postgres import Database, Row, Transaction
from mesh.rekeying import Column, Say, move_columns
from mesh.resealing import SealedColumn
from mesh.sealing import FieldKeys, Seal, SealBrokenError
from services.documents.errors import ContentUnreadableError
from services.documents.level import Level
from services.documents.pades import Place
from services.documents.preparation import Format, Preparation, PreparedDocument
from services.documents.pseudonyms import PERSON_LABEL, Pseudonyms
from services.documents.records import PersonsDocument, SignedObject, StoredDocument
from services.documents.signed_document import Cursor, SignedDocument

CONTENT_KEY_LABEL = "documents-content-key"
PSEUDONYM_TABLES = ("documents.preparations", "documents.signed")
_PERSONS = (Column("documents.preparations", "person"), Column("documents.signed", "person"))

# Both tables by one statement, so that no preparation is ever seen without its documents.
_ADD = """
WITH added AS (
    INSERT INTO documents.preparations (
        preparation, application, request_id, fingerprint, signature, signing_time, created_at, sealed_content_key,
        sealed_certificates, person
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $20)
    ON CONFLICT DO NOTHING
    RETURNING preparation
)
INSERT INTO documents.prepared (
    document, preparation, position, sealed_title, format, content_bytes, content_sha256, digest_sha256, place_start,
    place_end, object, level
)
SELECT d.document, added.preparation, d.position - 1, d.sealed_title, d.format, d.content_bytes, d.content_sha256,
    d.digest_sha256, d.place_start, d.place_end, d.object, d.level
FROM added, unnest(
    $10::text[], $11::bytea[], $12::text[], $13::integer[], $14::bytea[], $15::bytea[], $16::integer[], $17::integer[],
    $18::text[], $19::text[]
) WITH ORDINALITY AS d (
    document, sealed_title, format, content_bytes, content_sha256, digest_sha256, place_start, place_end, object, level,
    position
)
"""

_PREPARATION = """
SELECT p.preparation, p.application, p.request_id, p.fingerprint, p.signature, p.signing_time, p.created_at,
    p.sealed_content_key, p.sealed_certificates, p.assembled_from_sha256, p.person, d.document, d.sealed_title,
    d.format, d.content_bytes, d.content_sha256, d.digest_sha256, d.place_start, d.place_end, d.object, d.level
FROM documents.preparations AS p
JOIN documents.prepared AS d ON d.preparation = p.preparation
"""

_FIND = _PREPARATION + "WHERE p.preparation = $1 AND p.sealed_content_key IS NOT NULL ORDER BY d.position"

_FIND_BY_REQUEST = (
    _PREPARATION
    + "WHERE p.application = $1 AND p.request_id = $2 AND p.sealed_content_key IS NOT NULL ORDER BY d.position"
)

_ASSEMBLE = """
WITH moved AS (
    UPDATE documents.preparations SET assembled_from_sha256 = $2, assembled_at = $3
    WHERE preparation = $1 AND assembled_at IS NULL AND sealed_content_key IS NOT NULL
    RETURNING application, person
)
INSERT INTO documents.signed (document, application, created_at, object, size_bytes, sha256, person)
SELECT s.document, moved.application, $3, s.object, s.size_bytes, s.sha256, moved.person
FROM moved, unnest($4::text[], $5::text[], $6::integer[], $7::bytea[]) AS s (document, object, size_bytes, sha256)
"""

_SIGNED = """
SELECT s.document, s.created_at, s.size_bytes, s.object, s.sha256, d.sealed_title, d.format, d.level, d.content_sha256,
    p.preparation, p.application, p.signature, p.sealed_content_key, p.sealed_certificates[1] AS sealed_certificate
FROM documents.signed AS s
JOIN documents.prepared AS d ON d.document = s.document
JOIN documents.preparations AS p ON p.preparation = d.preparation
"""

_SIGNED_OF = _SIGNED + "WHERE p.preparation = $1 ORDER BY d.position"

_SIGNED_BY = _SIGNED + "WHERE p.application = $1 AND p.signature = $2 ORDER BY d.position"

# Both tables name the application. The page is found by the one; the other is what the content key is sealed for.
_OWN = "WHERE s.application = $1 AND p.application = $1"

_FIRST_PAGE = _SIGNED + _OWN + " ORDER BY s.created_at DESC, s.document DESC LIMIT $2"

_NEXT_PAGE = (
    _SIGNED
    + _OWN
    + " AND (s.created_at, s.document) < ($3, $4)"
    + " ORDER BY s.created_at DESC, s.document DESC LIMIT $2"
)

_FIRST_PAGE_OF_PERSON = _SIGNED + "WHERE s.person = $1 ORDER BY s.created_at DESC, s.document DESC LIMIT $2"

_NEXT_PAGE_OF_PERSON = (
    _SIGNED
    + "WHERE s.person = $1 AND (s.created_at, s.document) < ($3, $4)"
    + " ORDER BY s.created_at DESC, s.document DESC LIMIT $2"
)

_FIRST_PAGE_OF_PERSON_FOR = (
    _SIGNED
    + "WHERE s.person = $1 AND s.application = $3 AND p.application = $3"
    + " ORDER BY s.created_at DESC, s.document DESC LIMIT $2"
)

_NEXT_PAGE_OF_PERSON_FOR = (
    _SIGNED
    + "WHERE s.person = $1 AND s.application = $5 AND p.application = $5 AND (s.created_at, s.document) < ($3, $4)"
    + " ORDER BY s.created_at DESC, s.document DESC LIMIT $2"
)

_GET = _SIGNED + _OWN + " AND s.document = $2"

_FORGET = """
WITH forgotten AS (
    UPDATE documents.preparations SET sealed_content_key = NULL, person = NULL
    WHERE created_at < $1 AND assembled_at IS NULL AND sealed_content_key IS NOT NULL
    RETURNING preparation
)
SELECT d.object FROM forgotten JOIN documents.prepared AS d ON d.preparation = forgotten.preparation
"""

_PAGE_OF_CONTENT_KEYS = """
SELECT preparation AS key, application, sealed_content_key AS sealed FROM documents.preparations
WHERE preparation > $1 AND sealed_content_key IS NOT NULL ORDER BY preparation LIMIT $2
"""

_REPLACE_CONTENT_KEYS = """
WITH free AS (
    SELECT preparation FROM documents.preparations WHERE preparation = ANY($1::text[]) FOR UPDATE SKIP LOCKED
)
UPDATE documents.preparations AS p SET sealed_content_key = new.sealed
FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS new (key, was, sealed) JOIN free ON free.preparation = new.key
WHERE p.preparation = new.key AND p.sealed_content_key = new.was
"""


class Store:
    """Implements `records.Records`. `seal` is under the room's own key; it seals content keys only."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def add(self, preparation: Preparation) -> bool:
        """See `Records.add`."""
        under_content_key = Seal(preparation.content_key)
        documents = preparation.documents
        changed = await self._database.run(
            _ADD,
            preparation.id,
            preparation.application,
            preparation.request_id,
            preparation.fingerprint,
            preparation.signature,
            preparation.signing_time,
            preparation.created_at,
            self._seal.seal(
                preparation.content_key, column="content_key", row=_bound(preparation.id, preparation.application)
            ),
            [
                under_content_key.seal(der, column=f"certificate-{index}", row=preparation.id)
                for index, der in enumerate(preparation.certificates_der)
            ],
            [document.id for document in documents],
            [
                under_content_key.seal(document.title.encode(), column="title", row=document.id)
                for document in documents
            ],
            [document.format.value for document in documents],
            [document.content_bytes for document in documents],
            [document.content_sha256 for document in documents],
            [document.digest_sha256 for document in documents],
            [document.place.start if document.place else None for document in documents],
            [document.place.end if document.place else None for document in documents],
            [document.object for document in documents],
            [document.level.value for document in documents],
            preparation.person,
        )
        return changed > 0

    async def find(self, preparation_id: str) -> Preparation | None:
        """See `Records.find`."""
        return self._preparation(await self._database.all(_FIND, preparation_id))

    async def find_by_request(self, application: str, request_id: str) -> Preparation | None:
        """See `Records.find_by_request`."""
        return self._preparation(await self._database.all(_FIND_BY_REQUEST, application, request_id))

    async def assemble(
        self, preparation_id: str, signatures_sha256: bytes, signed: Sequence[SignedObject], *, at: datetime
    ) -> bool:
        """See `Records.assemble`."""
        changed = await self._database.run(
            _ASSEMBLE,
            preparation_id,
            signatures_sha256,
            at,
            [item.document for item in signed],
            [item.object for item in signed],
            [item.size_bytes for item in signed],
            [item.sha256 for item in signed],
        )
        return changed > 0

    async def signed_of(self, preparation_id: str) -> Sequence[SignedDocument]:
        """See `Records.signed_of`."""
        rows = await self._database.all(_SIGNED_OF, preparation_id)
        return [self._signed(row) for row in rows]

    async def signed_by(self, application: str, signature: str) -> Sequence[SignedDocument]:
        """See `Records.signed_by`."""
        rows = await self._database.all(_SIGNED_BY, application, signature)
        return [self._signed(row) for row in rows]

    async def page(self, application: str, after: Cursor | None, limit: int) -> Sequence[SignedDocument]:
        """See `Records.page`."""
        if after is None:
            rows = await self._database.all(_FIRST_PAGE, application, limit)
        else:
            rows = await self._database.all(_NEXT_PAGE, application, limit, after.created_at, after.id)
        return [self._signed(row) for row in rows]

    async def page_of_person(
        self, person: bytes, application: str | None, after: Cursor | None, limit: int
    ) -> Sequence[PersonsDocument]:
        """See `Records.page_of_person`."""
        if application is None and after is None:
            rows = await self._database.all(_FIRST_PAGE_OF_PERSON, person, limit)
        elif application is None and after is not None:
            rows = await self._database.all(_NEXT_PAGE_OF_PERSON, person, limit, after.created_at, after.id)
        elif after is None:
            rows = await self._database.all(_FIRST_PAGE_OF_PERSON_FOR, person, limit, application)
        else:
            place = (after.created_at, after.id)
            rows = await self._database.all(_NEXT_PAGE_OF_PERSON_FOR, person, limit, *place, application)
        return [PersonsDocument(self._signed(row), row["application"], self._certificate(row)) for row in rows]

    async def get(self, application: str, document_id: str) -> StoredDocument | None:
        """See `Records.get`."""
        row = await self._database.one(_GET, application, document_id)
        if row is None:
            return None
        return StoredDocument(self._signed(row), row["object"], row["sha256"], self._content_key(row))

    async def forget(self, *, waiting_since_before: datetime) -> Sequence[str]:
        """See `Records.forget`."""
        rows = await self._database.all(_FORGET, waiting_since_before)
        return [row["object"] for row in rows]

    def _content_key(self, row: Row) -> bytes:
        sealed_for = _bound(row["preparation"], row["application"])
        return _open(self._seal, row["sealed_content_key"], column="content_key", row=sealed_for)

    def _certificate(self, row: Row) -> bytes:
        seal = Seal(self._content_key(row))
        return _open(seal, row["sealed_certificate"], column="certificate-0", row=row["preparation"])

    def _preparation(self, rows: Sequence[Row]) -> Preparation | None:
        if not rows:
            return None
        first = rows[0]
        content_key = self._content_key(first)
        seal = Seal(content_key)
        return Preparation(
            id=first["preparation"],
            application=first["application"],
            request_id=first["request_id"],
            fingerprint=first["fingerprint"],
            signature=first["signature"],
            signing_time=first["signing_time"],
            created_at=first["created_at"],
            content_key=content_key,
            certificates_der=tuple(
                _open(seal, sealed, column=f"certificate-{index}", row=first["preparation"])
                for index, sealed in enumerate(first["sealed_certificates"])
            ),
            documents=tuple(_prepared(seal, row) for row in rows),
            assembled_from_sha256=first["assembled_from_sha256"],
            person=first["person"],
        )

    def _signed(self, row: Row) -> SignedDocument:
        return SignedDocument(
            id=row["document"],
            signature=row["signature"],
            title=_title(Seal(self._content_key(row)), row),
            format=Format(row["format"]),
            size_bytes=row["size_bytes"],
            content_sha256=row["content_sha256"],
            created_at=row["created_at"],
            level=Level(row["level"]),
        )


def _prepared(seal: Seal, row: Row) -> PreparedDocument:
    placed = row["place_start"] is not None
    return PreparedDocument(
        id=row["document"],
        title=_title(seal, row),
        format=Format(row["format"]),
        content_bytes=row["content_bytes"],
        content_sha256=row["content_sha256"],
        digest_sha256=row["digest_sha256"],
        place=Place(row["place_start"], row["place_end"]) if placed else None,
        object=row["object"],
        level=Level(row["level"]),
    )


def _bound(preparation: str, application: str) -> str:
    """What a content key is sealed for: who edits the tables gives no application another's documents."""
    return f"{preparation} {application}"


def _title(seal: Seal, row: Row) -> str:
    return _open(seal, row["sealed_title"], column="title", row=row["document"]).decode()


def _open(seal: Seal, sealed: bytes, *, column: str, row: str) -> bytes:
    try:
        return seal.open(sealed, column=column, row=row)
    except SealBrokenError as error:
        raise ContentUnreadableError("a stored row is sealed under another key, or was altered") from error


SEALED_COLUMNS = (
    SealedColumn(
        name="documents.preparations.sealed_content_key",
        label=CONTENT_KEY_LABEL,
        column="content_key",
        row=lambda row: _bound(row["key"], row["application"]),
        page=_PAGE_OF_CONTENT_KEYS,
        replace=_REPLACE_CONTENT_KEYS,
    ),
)


class PersonsMoving:
    """Moves the pseudonyms of people to newer field keys, under the owner's role; for `services.documents.rekey`."""

    def __init__(self, keys: FieldKeys, say: Say) -> None:
        self._pseudonyms = Pseudonyms(*keys.derived(PERSON_LABEL))
        self._say = say

    async def move(self, transaction: Transaction, since: int) -> int:
        """Move every row that is about somebody under the first `since` keys; return how many."""
        return await move_columns(
            transaction, _PERSONS, lambda person: self._pseudonyms.lifted(person, since), self._say
        )
