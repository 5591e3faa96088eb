"""The address that limits count by is what Envoy saw, never what a client says."""

import pytest
from finid.auth.v1 import auth_pb2 as auth

from mesh.transaction import Channel
from services.auth_gateway.authentication import State
from services.auth_gateway.network_address import address_of
from tests.auth_gateway.edge import Edge
from tests.auth_gateway.room import ask_of
from tests.auth_gateway.visits import HostedPage, create


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", ""),
        ("unknown", ""),
        ("203.0.113.7:1234", ""),
        ("203.0.113.7, x", ""),
    ],
)
def test_address(forwarded_for: str, address: str) -> None:
    assert address_of(forwarded_for) == address


FORWARDED = (("x-forwarded-for", "198.51.100.1, 203.0.113.7"),)


@pytest.mark.postgres
async def test_a_code_counts_against_the_address_of_the_persons_own_browser(edge: Edge) -> None:
    created = await edge.finid().CreateAuthentication(create(), metadata=edge.token())
    page = HostedPage(edge)
    shown = await page.open(created.capture_uri)
    page.cookie += FORWARDED
    await page.walk(shown)
    assert edge.room.otp.askers[-1].address == "203.0.113.7"


@pytest.mark.postgres
async def test_a_banks_server_asks_for_many_people_and_its_address_does_not_count(edge: Edge) -> None:
    item = await edge.room.walk(await edge.room.identify(ask_of(channel=Channel.STEPS)), State.AWAITING_CODE)
    await edge.finid().SendCode(auth.SendCodeRequest(name=item.name), metadata=edge.token() + FORWARDED)
    assert edge.room.otp.askers[-1].address == ""
