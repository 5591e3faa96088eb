"""The network address that limits count by."""

import ipaddress

# A household or a phone is given a whole /64 (RFC 6177, RFC 7934), and may use another address of it each time.
_IPV6_PREFIX_BITS = 64


def address_of(forwarded_for: str) -> str:
    """Return what Envoy, the last hop before us, saw (the last of X-Forwarded-For), IPv6 as its /64; "" for no address.

    Envoy drops every forwarding header that a client sends, so that what is left is its own.
    """
    try:
        address = ipaddress.ip_address(forwarded_for.rpartition(",")[2].strip())
    except ValueError:
        return ""
    if address.version == 4:  # noqa: PLR2004  IPv4
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address.packed, _IPV6_PREFIX_BITS), strict=False))
