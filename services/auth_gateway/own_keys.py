"""The gateway's own keys from files that may be replaced while it runs, and what is published of them.

A key is rotated in this order, so that no participant meets one that it cannot fetch: the public halves of old and new
key into the file of other keys; when all replicas publish them, the key itself. The old one's half stays in that file.
"""

from collections.abc import Callable, Sequence

from mesh.mounted import Mounted
from mesh.settings import secret_file
from mesh.transaction import Env
from services.auth_gateway.settings import Settings
from services.auth_gateway.statements import KeyUse, PublishedKey, SigningKey, StatementKey, earlier_keys


def statement_key_of(settings: Settings) -> Mounted[StatementKey]:
    """Return the key that signs statements. Raises ValueError for anything but an Ed25519 key."""
    return Mounted(
        "statement key",
        [settings.statement_key_file],
        lambda contents: StatementKey.from_pem(contents[0]),
        every_s=settings.reload_every_s,
        require=secret_file,
    )


def webhook_key_of(settings: Settings) -> Mounted[SigningKey]:
    """Return the key that signs webhooks. Raises ValueError for anything but an Ed25519 key."""
    return Mounted(
        "webhook key",
        [settings.webhook_key_file],
        lambda contents: SigningKey.from_pem(contents[0]),
        every_s=settings.reload_every_s,
        require=secret_file,
    )


def other_keys_of(settings: Settings) -> Callable[[], Sequence[PublishedKey]]:
    """Return the earlier keys, and the next ones. Raises ValueError for anything but a JWK Set of published keys."""
    if settings.earlier_keys_file is None:
        return tuple
    return Mounted(
        "earlier keys",
        [settings.earlier_keys_file],
        lambda contents: earlier_keys(contents[0], Env(settings.env)),
        every_s=settings.reload_every_s,
    )


def published(
    statement_key: Callable[[], StatementKey],
    webhook_key: Callable[[], SigningKey],
    others: Callable[[], Sequence[PublishedKey]],
) -> Callable[[], Sequence[PublishedKey]]:
    """Return what gives the public halves of all of them, each once."""

    def now() -> Sequence[PublishedKey]:
        own = [
            PublishedKey(KeyUse.STATEMENT, statement_key().public_key),
            PublishedKey(KeyUse.WEBHOOK, webhook_key().public_key),
        ]
        return tuple(dict.fromkeys([*own, *others()]))

    return now
