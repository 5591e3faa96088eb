"""What the gateway remembers, and every statement that changes it: each checks the state that it leaves."""

import datetime
import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mesh import base64url
from mesh.postgres import Database, Row, Transaction, UniqueViolationError
from mesh.rekeying import Say
from mesh.resealing import SealedColumn
from mesh.sealing import Seal
from mesh.transaction import Openings, txn_of
from services.auth_gateway.authentication import (
    ERASED,
    Authentication,
    AuthenticationNotFoundError,
    ConsentText,
    Language,
    Receipts,
    ReturnTo,
    Scores,
    State,
    Verdict,
    View,
    parsed,
)
from services.auth_gateway.ports import IssuedCertificate
from services.auth_gateway.records import (
    Certificate,
    JournalEntry,
    Operation,
    Request,
    RequestIdReusedError,
    TooManyAuthenticationsError,
)
from services.auth_gateway.subjects import Subjects

FIELD_LABEL = "field"
"""Of the keys (`mesh.sealing.derive`) that seal personal data."""


def _told(update: str) -> str:
    """Return a statement that changes a state and, where its application is told of that, writes what is to be told.

    Both or neither: there is no change without its message (webhooks.py), and no message without its change.
    """
    return f"""
WITH changed AS ({update}RETURNING name, application, state, notifies), told AS (
    INSERT INTO auth_gateway.webhook (authentication, state, application)
    SELECT name, state, application FROM changed WHERE notifies
)
SELECT name FROM changed
"""  # noqa: S608  statements are constants


_COLUMNS = """name, application, state, language, subject, transaction, openings, redirect_uri, return_state,
    code_challenge, created_at, expires_at, preparation_receipt, state_record, liveness_receipt, face_match, sms_otp,
    key_attestation, consents, liveness_session, challenge, scores, verdict, reason, outcome, person, finished_at,
    result_read_at, cross_device, number_due, notifies, consent_withdrawn_at, capture_token_sha256,
    version"""

_INSERT = """
INSERT INTO auth_gateway.authentication (name, application, state, language, subject, transaction, txn, openings,
    consents, redirect_uri, return_state, code_challenge, created_at, expires_at, preparation_receipt, state_record,
    photo_jwe, capture_token_sha256, cross_device, number_due, notifies)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $20, $21, $22
WHERE (SELECT count(*) FROM auth_gateway.authentication AS other WHERE other.subject = $5 AND other.expires_at > $13
    AND other.state IN ('AWAITING_CONSENTS', 'AWAITING_LIVENESS', 'AWAITING_CODE')) < $19
"""
# Calls that come together see each other's rows: they count one after the other.
_LOCK_SUBJECT = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_INSERT_REQUEST = """
INSERT INTO auth_gateway.request (application, method, request_id, digest, resource, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_REQUEST = """
SELECT digest, resource FROM auth_gateway.request WHERE application = $1 AND method = $2 AND request_id = $3
"""
_INSERT_OPERATION = """
INSERT INTO auth_gateway.operation (name, application, authentication, preparation, created_at)
VALUES ($1, $2, $3, $4, $5)
"""
_OPERATION = """
SELECT name, application, authentication, preparation FROM auth_gateway.operation WHERE name = $1
"""
_OPERATION_OF = """
SELECT name, application, authentication, preparation FROM auth_gateway.operation WHERE authentication = $1
"""
_GET = f"SELECT {_COLUMNS} FROM auth_gateway.authentication WHERE name = $1"  # noqa: S608  columns are a constant
_OF_SESSION = f"""
{_GET} AND capture_session_sha256 = $2 AND (state = 'COMPLETING' OR coalesce(finished_at, expires_at) > $3)
"""
_PHOTO = "SELECT photo_jwe FROM auth_gateway.authentication WHERE name = $1 AND state = 'AWAITING_LIVENESS'"
# State and record are one statement: there is none without the other, whatever dies. All that the record says is in the
# row, as the transaction fixed it; the texts are stored once each, by their digests.
_GIVE_CONSENTS = """
WITH given AS (
    UPDATE auth_gateway.authentication SET state = 'AWAITING_LIVENESS', consented_at = $2
    WHERE name = $1 AND state = 'AWAITING_CONSENTS' AND NOT number_due AND expires_at > $2
        AND ($3::bigint IS NULL OR version = $3)
    RETURNING name, txn, subject, application, language, consents, coalesce(consents_shown_at, created_at) AS shown_at,
        convert_from(transaction, 'UTF8')::jsonb AS t, state, notifies
), told AS (
    INSERT INTO auth_gateway.webhook (authentication, state, application)
    SELECT name, state, application FROM given WHERE notifies
), document AS (
    SELECT given.*, item, sha256(convert_to(item ->> 'text', 'UTF8')) AS text_sha256
    FROM given CROSS JOIN LATERAL jsonb_array_elements(given.consents) AS item
), text AS (
    -- In order, so that two that bring the same new texts do not wait for each other.
    INSERT INTO auth_gateway.consent_text (text_sha256, text)
    SELECT DISTINCT text_sha256, item ->> 'text' FROM document ORDER BY text_sha256
    ON CONFLICT (text_sha256) DO NOTHING
), record AS (
    INSERT INTO auth_gateway.consent (name, authentication, txn, subject, iin_commitment, application,
        application_title, purpose, scopes, document, version, language, text_sha256, controller, controller_title,
        channel, shown_at, given_at)
    SELECT replace(name, 'authentications/', 'consents/') || '-' || (item ->> 'id'), name, txn, subject,
        t ->> 'iin_commitment', application, t ->> 'application_title', t ->> 'purpose',
        ARRAY(SELECT jsonb_array_elements_text(t -> 'scopes')),
        item ->> 'id', item ->> 'version', language, text_sha256, coalesce(item ->> 'controller', 'APPLICATION'),
        coalesce(nullif(item ->> 'controller_title', ''), t ->> 'application_title'), t ->> 'channel',
        least(shown_at, $2), $2
    FROM document
)
SELECT name FROM given
"""
# Only then the page shows what there is to agree to.
_CONFIRM_MATCH = """
UPDATE auth_gateway.authentication SET number_due = false, consents_shown_at = $2
WHERE name = $1 AND state = 'AWAITING_CONSENTS' AND number_due AND expires_at > $2
"""
# Calls that come at once are told of one attempt; a late one of them does not put it in the place of a later attempt.
_START_LIVENESS = """
UPDATE auth_gateway.authentication SET liveness_session = $2
WHERE name = $1 AND state = 'AWAITING_LIVENESS' AND expires_at > $3 AND liveness_session IN ($2, $4)
    AND ($5::bigint IS NULL OR version = $5)
"""
_DROP_LIVENESS = """
UPDATE auth_gateway.authentication SET liveness_session = ''
WHERE name = $1 AND state = 'AWAITING_LIVENESS' AND liveness_session = $2
"""
_ACCEPT_BIOMETRICS = _told("""
UPDATE auth_gateway.authentication
SET state = 'AWAITING_CODE', liveness_receipt = $3, face_match = $4, scores = $5, photo_jwe = ''
WHERE name = $1 AND state = 'AWAITING_LIVENESS' AND liveness_session = $2 AND expires_at > $6
    AND ($7::bigint IS NULL OR version = $7)
""")
_ACCEPT_BIOMETRICS_ALONE = _told("""
UPDATE auth_gateway.authentication
SET state = 'COMPLETING', liveness_receipt = $3, face_match = $4, scores = $5, photo_jwe = '', lease_ends_at = $7
WHERE name = $1 AND state = 'AWAITING_LIVENESS' AND liveness_session = $2 AND expires_at > $6
    AND ($8::bigint IS NULL OR version = $8)
""")
_SEND_CODE = """
UPDATE auth_gateway.authentication SET challenge = $2 WHERE name = $1 AND state = 'AWAITING_CODE' AND expires_at > $3
    AND ($4::bigint IS NULL OR version = $4)
"""
_FAIL = _told("""
UPDATE auth_gateway.authentication
SET state = 'FINISHED', verdict = 'FAILURE', reason = $3, finished_at = $4, photo_jwe = ''
WHERE name = $1 AND state = $2
    AND (state IN ('AWAITING_LIVENESS', 'AWAITING_CODE') OR state = 'AWAITING_CONSENTS' AND number_due)
    AND ($5::text IS NULL OR liveness_session = $5)
""")
_ACCEPT_CODE = _told("""
UPDATE auth_gateway.authentication SET state = 'COMPLETING', sms_otp = $3, lease_ends_at = $5
WHERE name = $1 AND state = 'AWAITING_CODE' AND challenge = $2 AND expires_at > $4
    AND ($6::bigint IS NULL OR version = $6)
""")
_LEASE = """
UPDATE auth_gateway.authentication SET lease_ends_at = $3
WHERE name = $1 AND state = 'COMPLETING' AND lease_ends_at <= $2 AND $2 < $3
"""
_RELEASE_LEASE = """
UPDATE auth_gateway.authentication SET lease_ends_at = '-infinity'
WHERE name = $1 AND state = 'COMPLETING' AND lease_ends_at = $2
"""
_ATTEST_KEY = """
UPDATE auth_gateway.authentication SET key_attestation = $2 WHERE name = $1 AND state = 'COMPLETING'
"""
# Whatever was signed is told of (notices.py): for a day, after which the person has seen the documents themselves.
_SUCCEED = """
WITH finished AS (
    UPDATE auth_gateway.authentication
    SET state = 'FINISHED', verdict = 'SUCCESS', outcome = $3, person = $4, finished_at = $5
    WHERE name = $1 AND state = 'COMPLETING' AND lease_ends_at = $2
    RETURNING name, application, state, notifies, outcome, finished_at
), told AS (
    INSERT INTO auth_gateway.webhook (authentication, state, application)
    SELECT name, state, application FROM finished WHERE notifies
), noted AS (
    INSERT INTO auth_gateway.notice (name, kind, authentication, created_at, due_at, gives_up_at)
    SELECT outcome, 'SIGNED', name, finished_at, finished_at, finished_at + interval '1 day'
    FROM finished WHERE outcome LIKE 'signatures/%'
)
SELECT name FROM finished
"""
_REFUSE = _told("""
UPDATE auth_gateway.authentication SET state = 'FINISHED', verdict = 'FAILURE', reason = $3, finished_at = $4
WHERE name = $1 AND state = 'COMPLETING' AND lease_ends_at = $2
""")
_CANCEL = _told("""
UPDATE auth_gateway.authentication SET state = 'CANCELLED', photo_jwe = ''
WHERE name = $1 AND state IN ('AWAITING_CONSENTS', 'AWAITING_LIVENESS', 'AWAITING_CODE')
    AND ($2::bigint IS NULL OR version = $2)
""")
_EXPIRE = _told("""
UPDATE auth_gateway.authentication SET state = 'EXPIRED', photo_jwe = ''
WHERE state IN ('AWAITING_CONSENTS', 'AWAITING_LIVENESS', 'AWAITING_CODE') AND expires_at <= $1
""")
_INTERRUPTED = """
SELECT name FROM auth_gateway.authentication WHERE state = 'COMPLETING' AND lease_ends_at <= $1
ORDER BY lease_ends_at LIMIT 20
"""
_OPEN_CAPTURE = """
UPDATE auth_gateway.authentication SET capture_session_sha256 = $2, consents_shown_at = $3
WHERE capture_token_sha256 = $1 AND capture_session_sha256 IS NULL AND expires_at > $3
    AND state NOT IN ('CANCELLED', 'EXPIRED')
RETURNING name
"""
_SET_RESULT_CODE = """
UPDATE auth_gateway.authentication SET result_code_sha256 = $2
WHERE name = $1 AND state = 'FINISHED' AND result_read_at IS NULL
"""
_READ_RESULT = """
UPDATE auth_gateway.authentication SET result_read_at = coalesce(result_read_at, $2)
WHERE name = $1 AND state = 'FINISHED'
"""
_READ_RESULT_BY_CODE = """
UPDATE auth_gateway.authentication SET result_read_at = coalesce(result_read_at, $3)
WHERE name = $1 AND state = 'FINISHED' AND result_code_sha256 = $2 AND (result_read_at IS NULL OR result_read_at > $4)
"""
_READ_OPERATIONS = """
SELECT operation.name FROM auth_gateway.operation
JOIN auth_gateway.authentication ON authentication.name = operation.authentication
WHERE operation.name = ANY($1) AND authentication.result_read_at IS NOT NULL
"""
_INSERT_CERTIFICATE = """
INSERT INTO auth_gateway.certificate (name, subject, credential, certificate_der, chain_der, authentication,
    activatable_at, activation, created_at, replaces, application, owner)
VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $7::timestamptz IS NULL THEN 'DONE' ELSE 'WAITING' END, $8, $9, $10, $11)
ON CONFLICT (name) DO NOTHING
"""
_CERTIFICATE_COLUMNS = """name, subject, credential, certificate_der, chain_der, authentication, replaces,
    replaced, CASE activation WHEN 'WAITING' THEN activatable_at END AS activatable_at"""
_CERTIFICATE = f"SELECT {_CERTIFICATE_COLUMNS} FROM auth_gateway.certificate WHERE name = $1"  # noqa: S608  a constant
_DUE_ACTIVATIONS = f"""
SELECT {_CERTIFICATE_COLUMNS} FROM auth_gateway.certificate
WHERE activation = 'WAITING' AND activatable_at <= $1 ORDER BY activatable_at LIMIT 20
"""  # noqa: S608  a constant
_END_WAIT = """
WITH ended AS (
    UPDATE auth_gateway.certificate SET activation = $2 WHERE name = $1 AND activation = 'WAITING'
    RETURNING activation, replaces
)
UPDATE auth_gateway.certificate AS old SET replaced = true
FROM ended WHERE ended.activation = 'DONE' AND ended.replaces <> '' AND old.credential = ended.replaces
"""
_LAST = """
SELECT authentication FROM auth_gateway.certificate
WHERE subject = $1 AND activation = 'DONE' AND authentication <> '' ORDER BY created_at DESC LIMIT 1
"""
_CERTIFICATE_OF = """
SELECT name FROM auth_gateway.certificate WHERE credential = $1
"""
# Lines come as one JSON text: of seven arrays asyncpg looks at every element several times.
_LINES = """
    json_to_recordset($1) AS (
        application text, method text, resource text, code text, reason text, duration_ms integer, called_at timestamptz
    )
"""
# In front of what is selected from: the commit of this statement is not waited for. PostgreSQL writes it within three
# wal_writer_delay, 0.6 s; its lines are lost if PostgreSQL crashes before (the process that asked may end meanwhile).
# For looks and batches of frames, which are most calls: neither releases personal data or starts or ends anything.
_SOON = "set_config('synchronous_commit', 'off', true),"
_JOURNAL = f"""
INSERT INTO auth_gateway.journal (application, method, resource, code, reason, duration_ms, called_at)
SELECT * FROM {_LINES}
"""  # noqa: S608  a constant
_JOURNAL_SOON = f"""
INSERT INTO auth_gateway.journal (application, method, resource, code, reason, duration_ms, called_at)
SELECT call.* FROM {_SOON} ROWS FROM ({_LINES}) AS call
"""  # noqa: S608  constants

_SEEN = (
    "name",
    "application",
    "state",
    "language",
    "version",
    "transaction",
    "created_at",
    "expires_at",
    "verdict",
    "reason",
    "result_read_at",
    "consents",
    "number_due",
    "openings",
)
# Read and recorded at once, one commit for all who ask together: PostgreSQL runs `line` whatever is selected. The order
# of lines is that of the calls. What reading took counts as part of each call.
_LOOK = f"""
WITH asked AS (
    SELECT call.* FROM {_SOON} ROWS FROM ({_LINES}) WITH ORDINALITY
        AS call (application, method, resource, code, reason, duration_ms, called_at, place)
), found AS (
    SELECT asked.place, {", ".join(f"authentication.{column}" for column in _SEEN)}
    FROM asked JOIN auth_gateway.authentication
        ON authentication.name = asked.resource AND authentication.application = asked.application
), line AS (
    INSERT INTO auth_gateway.journal (application, method, resource, code, reason, duration_ms, called_at)
    SELECT asked.application, asked.method, asked.resource,
        CASE WHEN found.place IS NULL THEN '{AuthenticationNotFoundError.code.value}' ELSE asked.code END,
        CASE WHEN found.place IS NULL THEN '{AuthenticationNotFoundError.reason}' ELSE asked.reason END,
        asked.duration_ms + (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)::integer,
        asked.called_at
    FROM asked LEFT JOIN found USING (place) ORDER BY asked.place
)
SELECT * FROM found
"""  # noqa: S608  code and reason are constants


class Store:
    """The gateway's tables (records.Records). Personal data in them is sealed."""

    def __init__(self, database: Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal
        # A pure function of what is in the row; who waits for somebody asks for the same again and again.
        self._known_view = functools.lru_cache(maxsize=1024)(self._view)

    async def made_by(self, request: Request) -> str | None:
        """See records.Records."""
        row = await self._database.one(_REQUEST, request.application, request.method, request.request_id)
        if row is None:
            return None
        if bytes(row["digest"]) not in {request.digest, *request.earlier_digests}:
            raise RequestIdReusedError("This request_id was used for another request.")
        return str(row["resource"])

    async def create(
        self,
        authentication: Authentication,
        request: Request,
        *,
        photo_jwe: str,
        capture_token_sha256: bytes,
        operation: Operation | None,
        max_open: int,
    ) -> str:
        """See records.Records."""
        resource = operation.name if operation else authentication.name
        try:
            async with self._database.transaction() as transaction:
                await transaction.run(
                    _INSERT_REQUEST,
                    request.application,
                    request.method,
                    request.request_id,
                    request.digest,
                    resource,
                    authentication.created_at,
                )
                await transaction.run(_LOCK_SUBJECT, authentication.subject)
                if not await transaction.run(
                    _INSERT,
                    *self._values(authentication),
                    photo_jwe,
                    capture_token_sha256,
                    max_open,
                    authentication.cross_device,
                    authentication.number_due,
                    authentication.notifies,
                ):
                    raise TooManyAuthenticationsError(
                        "Too many authentications of this person are open.", retry_after_s=60.0
                    )
                if operation:
                    await transaction.run(
                        _INSERT_OPERATION,
                        operation.name,
                        operation.application,
                        operation.authentication,
                        operation.preparation,
                        authentication.created_at,
                    )
        except UniqueViolationError:
            first = await self.made_by(request)
            if first is None:
                raise
            return first
        return resource

    def _values(self, item: Authentication) -> tuple[object, ...]:
        sealed_for = _bound(item.name, item.application, item.transaction_bytes)
        openings = {
            "iin": item.openings.iin,
            "iin_salt": base64url.encode(item.openings.iin_salt),
            "phone": item.openings.phone,
            "phone_salt": base64url.encode(item.openings.phone_salt),
        }
        return (
            item.name,
            item.application,
            item.state.value,
            item.language.value,
            item.subject,
            item.transaction_bytes,
            item.txn,
            self._seal.seal(json.dumps(openings).encode(), column="openings", row=sealed_for),
            _json([asdict(text) for text in item.consents]),
            item.return_to.redirect_uri,
            item.return_to.state,
            item.return_to.code_challenge,
            item.created_at,
            item.expires_at,
            item.receipts.preparation,
            item.receipts.state_record,
        )

    async def get(self, name: str) -> Authentication | None:
        """See records.Records."""
        row = await self._database.one(_GET, name)
        return self._authentication(row) if row is not None else None

    async def of_session(
        self, name: str, session_sha256: bytes, ended_after: datetime.datetime
    ) -> Authentication | None:
        """See records.Records."""
        row = await self._database.one(_OF_SESSION, name, session_sha256, ended_after)
        return self._authentication(row) if row is not None else None

    async def photo(self, name: str) -> str | None:
        """See records.Records."""
        row = await self._database.one(_PHOTO, name)
        return str(row["photo_jwe"]) if row is not None else None

    def _authentication(self, row: Row) -> Authentication:
        name = row["name"]
        person = row["person"]
        scores = json.loads(row["scores"])
        return Authentication(
            name=name,
            application=row["application"],
            state=State(row["state"]),
            language=Language(row["language"]),
            subject=row["subject"],
            transaction_bytes=bytes(row["transaction"]),
            openings=self._openings(row),
            return_to=ReturnTo(row["redirect_uri"], row["return_state"], row["code_challenge"]),
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            receipts=Receipts(
                row["preparation_receipt"],
                row["state_record"],
                row["liveness_receipt"],
                row["face_match"],
                row["sms_otp"],
                row["key_attestation"],
            ),
            consents=_consent_texts(row["consents"]),
            liveness_session=row["liveness_session"],
            challenge=row["challenge"],
            scores=Scores(**scores | {"face_similarities_ppm": tuple(scores.get("face_similarities_ppm", ()))}),
            verdict=Verdict(row["verdict"]) if row["verdict"] else None,
            reason=row["reason"],
            outcome=row["outcome"],
            person=json.loads(self._seal.open(bytes(person), column="person", row=name)) if person else {},
            finished_at=row["finished_at"],
            result_read_at=row["result_read_at"],
            cross_device=row["cross_device"],
            number_due=row["number_due"],
            notifies=row["notifies"],
            consent_withdrawn_at=row["consent_withdrawn_at"],
            capture_token_sha256=bytes(row["capture_token_sha256"]),
            version=row["version"],
        )

    def _openings(self, row: Row) -> Openings:
        values = self._open_openings(row)
        if not values:
            return ERASED
        opened = json.loads(values)
        return Openings(
            opened["iin"],
            base64url.decode(opened["iin_salt"]),
            opened["phone"],
            base64url.decode(opened["phone_salt"]),
        )

    def _open_openings(self, row: Mapping[str, Any]) -> bytes:
        """Return the sealed values, b"" where they are erased. Raises SealBrokenError if they are not this row's."""
        sealed = row["openings"]
        if not sealed:
            return b""
        sealed_for = _bound(row["name"], row["application"], row["transaction"])
        return self._seal.open(sealed, column="openings", row=sealed_for)

    async def give_consents(self, name: str, at: datetime.datetime, version: int | None = None) -> bool:
        """See records.Records."""
        return await self._database.one(_GIVE_CONSENTS, name, at, version) is not None

    async def start_liveness(
        self, name: str, session: str, at: datetime.datetime, *, known: str, version: int | None = None
    ) -> bool:
        """See records.Records."""
        return await self._database.run(_START_LIVENESS, name, session, at, known, version) == 1

    async def drop_liveness(self, name: str, session: str) -> bool:
        """See records.Records."""
        return await self._database.run(_DROP_LIVENESS, name, session) == 1

    async def pass_biometrics(
        self,
        name: str,
        session: str,
        receipts: tuple[str, str],
        scores: Scores,
        at: datetime.datetime,
        version: int | None = None,
    ) -> bool:
        """See records.Records."""
        values = (*receipts, _json(asdict(scores)), at, version)
        return await self._database.run(_ACCEPT_BIOMETRICS, name, session, *values) == 1

    async def pass_biometrics_alone(
        self,
        name: str,
        session: str,
        receipts: tuple[str, str],
        scores: Scores,
        at: datetime.datetime,
        lease_ends_at: datetime.datetime,
        version: int | None = None,
    ) -> bool:
        """See records.Records."""
        values = (*receipts, _json(asdict(scores)), at, lease_ends_at, version)
        return await self._database.run(_ACCEPT_BIOMETRICS_ALONE, name, session, *values) == 1

    async def send_code(self, name: str, challenge: str, at: datetime.datetime, version: int | None = None) -> bool:
        """See records.Records."""
        return await self._database.run(_SEND_CODE, name, challenge, at, version) == 1

    async def fail(
        self, name: str, state: State, reason: str, at: datetime.datetime, session: str | None = None
    ) -> bool:
        """See records.Records."""
        return await self._database.run(_FAIL, name, state.value, reason, at, session) == 1

    async def pass_code(
        self,
        name: str,
        challenge: str,
        sms_otp: str,
        at: datetime.datetime,
        lease_ends_at: datetime.datetime,
        version: int | None = None,
    ) -> bool:
        """See records.Records."""
        return await self._database.run(_ACCEPT_CODE, name, challenge, sms_otp, at, lease_ends_at, version) == 1

    async def lease(self, name: str, at: datetime.datetime, ends_at: datetime.datetime) -> bool:
        """See records.Records."""
        return await self._database.run(_LEASE, name, at, ends_at) == 1

    async def release_lease(self, name: str, lease_ends_at: datetime.datetime) -> None:
        """See records.Records."""
        await self._database.run(_RELEASE_LEASE, name, lease_ends_at)

    async def attest_key(self, name: str, key_attestation: str) -> None:
        """See records.Records."""
        await self._database.run(_ATTEST_KEY, name, key_attestation)

    async def succeed(
        self,
        name: str,
        lease_ends_at: datetime.datetime,
        outcome: str,
        person: Mapping[str, str],
        at: datetime.datetime,
    ) -> bool:
        """See records.Records."""
        sealed = self._seal.seal(_json(person).encode(), column="person", row=name) if person else None
        return await self._database.one(_SUCCEED, name, lease_ends_at, outcome, sealed, at) is not None

    async def refuse(self, name: str, lease_ends_at: datetime.datetime, reason: str, at: datetime.datetime) -> bool:
        """See records.Records."""
        return await self._database.run(_REFUSE, name, lease_ends_at, reason, at) == 1

    async def cancel(self, name: str, version: int | None = None) -> bool:
        """See records.Records."""
        return await self._database.run(_CANCEL, name, version) == 1

    async def expire(self, at: datetime.datetime) -> int:
        """See records.Records."""
        return await self._database.run(_EXPIRE, at)

    async def interrupted(self, at: datetime.datetime) -> tuple[str, ...]:
        """See records.Records."""
        return tuple(row["name"] for row in await self._database.all(_INTERRUPTED, at))

    async def open_capture(self, token_sha256: bytes, session_sha256: bytes, at: datetime.datetime) -> str | None:
        """See records.Records."""
        row = await self._database.one(_OPEN_CAPTURE, token_sha256, session_sha256, at)
        return str(row["name"]) if row is not None else None

    async def set_result_code(self, name: str, code_sha256: bytes) -> bool:
        """See records.Records."""
        return await self._database.run(_SET_RESULT_CODE, name, code_sha256) == 1

    async def read_result(self, name: str, at: datetime.datetime) -> bool:
        """See records.Records."""
        return await self._database.run(_READ_RESULT, name, at) == 1

    async def read_result_by_code(
        self, name: str, code_sha256: bytes, at: datetime.datetime, first_read_after: datetime.datetime
    ) -> bool:
        """See records.Records."""
        return await self._database.run(_READ_RESULT_BY_CODE, name, code_sha256, at, first_read_after) == 1

    async def operation(self, name: str) -> Operation | None:
        """See records.Records."""
        return _operation(await self._database.one(_OPERATION, name))

    async def operation_of(self, authentication: str) -> Operation | None:
        """See records.Records."""
        return _operation(await self._database.one(_OPERATION_OF, authentication))

    async def read_operations(self, names: Collection[str]) -> frozenset[str]:
        """See records.Records."""
        rows = await self._database.all(_READ_OPERATIONS, list(names))
        return frozenset(str(row["name"]) for row in rows)

    async def add_certificate(self, certificate: Certificate, at: datetime.datetime) -> None:
        """See records.Records."""
        await self._database.run(
            _INSERT_CERTIFICATE,
            certificate.name,
            certificate.subject,
            certificate.credential,
            self._seal.seal(certificate.issued.certificate_der, column="certificate_der", row=certificate.name),
            list(certificate.issued.chain_der),
            certificate.authentication,
            certificate.activatable_at,
            at,
            certificate.replaces,
            certificate.application,
            self._seal.seal(certificate.application.encode(), column="certificate_owner", row=certificate.name),
        )

    async def certificate(self, name: str) -> Certificate | None:
        """See records.Records."""
        row = await self._database.one(_CERTIFICATE, name)
        return None if row is None else self._certificate(row)

    def _certificate(self, row: Row) -> Certificate:
        name = str(row["name"])
        issued = IssuedCertificate(
            self._seal.open(bytes(row["certificate_der"]), column="certificate_der", row=name),
            tuple(bytes(der) for der in row["chain_der"]),
            name.removeprefix("certificates/"),
        )
        return Certificate(
            name,
            row["subject"],
            row["credential"],
            issued,
            row["authentication"],
            activatable_at=row["activatable_at"],
            replaces=row["replaces"],
            replaced=row["replaced"],
        )

    async def due_activations(self, at: datetime.datetime) -> tuple[Certificate, ...]:
        """See records.Records."""
        return tuple(self._certificate(row) for row in await self._database.all(_DUE_ACTIVATIONS, at))

    async def end_wait(self, name: str, *, activated: bool) -> None:
        """See records.Records."""
        await self._database.run(_END_WAIT, name, "DONE" if activated else "GIVEN_UP")

    async def last_phone(self, subject: str) -> str | None:
        """See records.Records."""
        row = await self._database.one(_LAST, subject)
        item = None if row is None else await self.get(str(row["authentication"]))
        return None if item is None else item.openings.phone

    async def certificate_of(self, credential: str) -> str | None:
        """See records.Records."""
        row = await self._database.one(_CERTIFICATE_OF, credential)
        return None if row is None else str(row["name"])

    async def journal(self, entries: Sequence[JournalEntry]) -> Sequence[None]:
        """See records.Records."""
        await self._database.run(_JOURNAL, _lines_of(entries))
        return [None] * len(entries)

    async def journal_soon(self, entries: Sequence[JournalEntry]) -> Sequence[None]:
        """See records.Records."""
        await self._database.run(_JOURNAL_SOON, _lines_of(entries))
        return [None] * len(entries)

    async def look(self, entries: Sequence[JournalEntry]) -> Sequence[Callable[[], View] | None]:
        """See records.Records."""
        rows = await self._database.all(_LOOK, _lines_of(entries))
        found: list[Callable[[], View] | None] = [None] * len(entries)
        for row in rows:
            place, *seen = row.values()
            found[place - 1] = functools.partial(self._known_view, tuple(seen))
        return found

    def _view(self, seen: tuple[Any, ...]) -> View:
        row = dict(zip(_SEEN, seen, strict=True))
        self._open_openings(row)  # whose it is, and what of, stands in the table for its index only
        return View(
            name=row["name"],
            state=State(row["state"]),
            language=Language(row["language"]),
            version=row["version"],
            transaction=parsed(row["transaction"]),
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            verdict=Verdict(row["verdict"]) if row["verdict"] else None,
            reason=row["reason"],
            result_read_at=row["result_read_at"],
            consents=_consent_texts(row["consents"]),
            number_due=row["number_due"],
        )

    async def confirm_match(self, name: str, at: datetime.datetime) -> bool:
        """See records.Records."""
        return await self._database.run(_CONFIRM_MATCH, name, at) == 1


def _lines_of(entries: Sequence[JournalEntry]) -> str:
    lines = [
        {
            "application": entry.application,
            "method": entry.method,
            "resource": entry.resource,
            "code": entry.code,
            "reason": entry.reason,
            "duration_ms": entry.duration_ms,
            "called_at": entry.called_at.isoformat(),
        }
        for entry in entries
    ]
    return _json(lines)


@functools.lru_cache(maxsize=256)  # what is asked for is written in few ways, and concerns nobody in particular
def _consent_texts(consents_json: str) -> tuple[ConsentText, ...]:
    return tuple(ConsentText(**text) for text in json.loads(consents_json))


def _operation(row: Row | None) -> Operation | None:
    if row is None:
        return None
    return Operation(row["name"], row["application"], row["authentication"], row["preparation"])


def _bound(name: str, application: str, transaction_bytes: bytes) -> str:
    """What openings are sealed for: who edits the table gives no application another's authentication to read."""
    return f"{name} {application} {txn_of(transaction_bytes).hex()}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


PSEUDONYM_TABLES = ("auth_gateway.authentication", "auth_gateway.certificate", "auth_gateway.consent")
"""Those with a `subject`, locked while that is moved to a newer key."""
_BATCH_OF_SUBJECTS = 10_000
_BATCH_OF_PAGES = 16_384  # 128 MiB of a table: seconds, of which its progress is told


class SubjectsMoving:
    """Moves every `subject` to newer keys, within the transaction of `mesh.rekeying.rekey`.

    A table of its own holds old and new ones meanwhile, so that each is hashed once. The others are written from their
    first page to their last: what is met again in a later page has moved, and is no old one.
    """

    def __init__(self, subjects: Subjects, say: Say) -> None:
        self._subjects = subjects
        self._say = say

    _MAKE = """
        CREATE UNLOGGED TABLE auth_gateway.subject_moved AS
        SELECT subject AS was, NULL::text AS moved FROM auth_gateway.authentication
        UNION SELECT subject, NULL FROM auth_gateway.certificate
        UNION SELECT subject, NULL FROM auth_gateway.consent"""
    _INDEX = "ALTER TABLE auth_gateway.subject_moved ADD PRIMARY KEY (was)"
    _ANALYSE = "ANALYZE auth_gateway.subject_moved"
    _PAGE = "SELECT was FROM auth_gateway.subject_moved WHERE was > $1 ORDER BY was LIMIT $2"
    _LIFT = """
        UPDATE auth_gateway.subject_moved AS m SET moved = new.moved
        FROM unnest($1::text[], $2::text[]) AS new (was, moved) WHERE m.was = new.was"""
    _PAGES = "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::integer AS pages"
    _MOVE = """
        UPDATE {table} AS t SET subject = m.moved FROM auth_gateway.subject_moved AS m
        WHERE t.subject = m.was AND t.ctid >= $1 AND t.ctid < $2"""
    _DROP = "DROP TABLE auth_gateway.subject_moved"

    async def move(self, transaction: Transaction, since: int) -> int:
        """Move them; return how many rows were written."""
        await transaction.run(self._MAKE)
        await transaction.run(self._INDEX)
        last = ""
        while rows := await transaction.all(self._PAGE, last, _BATCH_OF_SUBJECTS):
            found = [str(row["was"]) for row in rows]
            last = found[-1]
            await transaction.run(self._LIFT, found, [self._subjects.lifted(subject, since) for subject in found])
        await transaction.run(self._ANALYSE)
        written = 0
        for table in PSEUDONYM_TABLES:
            count = await self._move_table(transaction, table)
            self._say(f"{table}.subject: {count} rows")
            written += count
        await transaction.run(self._DROP)
        return written

    async def _move_table(self, transaction: Transaction, table: str) -> int:
        sized = await transaction.one(self._PAGES, table)
        pages = 0 if sized is None else int(sized["pages"])
        count = 0
        for first in range(0, pages, _BATCH_OF_PAGES):
            beyond = first + _BATCH_OF_PAGES
            count += await transaction.run(self._MOVE.format(table=table), (first, 0), (beyond, 0))
            if beyond < pages:
                self._say(f"{table}: {beyond} of {pages} pages, {count} rows")
        return count


def _sealed(
    table: str,
    column: str,
    sealed_as: str,
    place: str = "name",
    row: Callable[[Row], str] = lambda row: str(row["name"]),
) -> SealedColumn:
    """Say how a column is sealed anew, in a table whose key is `name`; `place` are the columns that `row` needs.

    Rows that somebody else holds are passed over, so that the gateway's own statements, some of which write many rows
    in an order of their own, and this never wait for each other in a ring.
    """
    return SealedColumn(
        name=f"{table}.{column}",
        label=FIELD_LABEL,
        column=sealed_as,
        row=row,
        page=f"""
SELECT name AS key, {column} AS sealed, {place} FROM {table}
WHERE name > $1 AND {column} <> '' ORDER BY name LIMIT $2
""",  # noqa: S608  names of our own
        replace=f"""
WITH free AS (
    SELECT name FROM {table} WHERE name = ANY($1::text[]) FOR UPDATE SKIP LOCKED
)
UPDATE {table} AS t SET {column} = new.sealed
FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS new (key, was, sealed) JOIN free ON free.name = new.key
WHERE t.name = new.key AND t.{column} = new.was
""",  # noqa: S608  names of our own
    )


SEALED_COLUMNS = (
    _sealed(
        "auth_gateway.authentication",
        "openings",
        "openings",
        "name, application, transaction",
        lambda row: _bound(row["name"], row["application"], row["transaction"]),
    ),
    _sealed("auth_gateway.authentication", "person", "person"),
    _sealed("auth_gateway.certificate", "certificate_der", "certificate_der"),
    _sealed("auth_gateway.certificate", "owner", "certificate_owner"),
)
