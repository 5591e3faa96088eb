"""The alarm: a key is unwrapped for an intent or for a new key, and for nothing else."""

from collections.abc import Sequence

import pytest

from mesh import metrics
from mesh.errors import FinIdError
from mesh.hsm import TokenError, TokenUnavailableError
from services.signer.unwraps import Counts
from tests.bundles import digest_of
from tests.measured import Grown
from tests.signer.room import FakeKeys, Room


def alarmed(room: Room, capsys: pytest.CaptureFixture[str]) -> bool:
    capsys.readouterr()
    well = room.unwraps.check()
    assert well is not ("unwraps differ from intents" in capsys.readouterr().out)
    return not well


async def test_keys_made_and_digests_signed_raise_no_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    room = Room()
    states = ("NEW_KEY", "INTENT", "RECORDED", "ABORTED")
    counted = [Grown.of(metrics.SIGNING_INTENTS, state=state) for state in states]
    credential = await room.enrol()
    await room.sign(room.bundle(credential))
    await room.sign(room.bundle(credential), "request-2")
    assert [one.by() for one in counted] == [1, 2, 2, 0]
    assert room.unwraps.counts() == Counts(unwraps=3, reasons=3, unsure=0)
    assert not alarmed(room, capsys)
    assert metrics.KEY_UNWRAPS_UNEXPLAINED.shown() == 0


async def test_an_unwrapping_without_an_intent_raises_the_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    room = Room()
    credential = await room.enrol()
    await room.fake_keys.sign(credential.wrapped_key, [digest_of("nobody confirmed this")])
    assert alarmed(room, capsys)
    assert alarmed(room, capsys)
    assert metrics.KEY_UNWRAPS_UNEXPLAINED.shown() == 1


class Idle(FakeKeys):
    """A token that answers without having unwrapped anything."""

    async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
        signatures = await super().sign(wrapped_key, digests_sha256)
        self.unwraps -= 1
        return signatures


async def test_a_signature_without_an_unwrapping_raises_the_alarm(capsys: pytest.CaptureFixture[str]) -> None:
    room = Room(keys=Idle())
    await room.sign(room.bundle(await room.enrol()))
    assert alarmed(room, capsys)
    assert metrics.KEY_UNWRAPS_UNEXPLAINED.shown() == -1


class Refusing(FakeKeys):
    """A token that fails before or after it unwrapped."""

    def __init__(self, *, unwraps_first: bool) -> None:
        super().__init__()
        self._unwraps_first = unwraps_first

    async def sign(self, wrapped_key: bytes, digests_sha256: Sequence[bytes]) -> Sequence[bytes]:
        self.unwraps += self._unwraps_first
        raise TokenUnavailableError("away")


@pytest.mark.parametrize("unwraps_first", [True, False])
async def test_a_call_that_failed_may_have_unwrapped_or_not(
    unwraps_first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    room = Room(keys=Refusing(unwraps_first=unwraps_first))
    with pytest.raises(FinIdError):
        await room.sign(room.bundle(await room.enrol()))
    assert not alarmed(room, capsys)


async def test_nothing_is_begun_while_the_token_is_known_to_be_away() -> None:
    room = Room()
    bundle = room.bundle(await room.enrol())
    room.fake_keys.away = True
    with pytest.raises(TokenError):
        await room.sign(bundle)
    assert await room.signings.find(bundle.txn) is None
    room.fake_keys.away = False
    assert await room.sign(bundle)
