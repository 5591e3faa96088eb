"""The address that limits count by is what Envoy saw, never what a client says."""

import pytest

from services.auth_gateway.network_address import address_of


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
