"""Whom bounds of one client are of."""

from ipaddress import IPv6Address, IPv6Network, ip_address

PREFIX = 64  # bits of an IPv6 address that a provider gives; the others a client chooses as it likes


def peer(host: str) -> str:
    """Return by what a client is counted: its IPv4 address, or the network of its IPv6 address."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, PREFIX), strict=False))
