"""Where a connection comes from, as far as limits are concerned."""

import ipaddress
from functools import lru_cache

_SITE_BITS = 64
"""Of an IPv6 address; whoever has one has as many as he likes that share these."""


@lru_cache(maxsize=4096)
def source_of(address: str | None, *, loopback_exempt: bool = True) -> str | None:
    """The address of a peer, or its network; None where no limit applies.

    None is a peer without an address, such as one on a Unix socket, and the machine itself unless
    `loopback_exempt` is off: what comes from there may be a proxy, and stand for the whole farm.
    """
    if address is None:
        return None
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if parsed.is_loopback and loopback_exempt:
        return None
    if parsed.version == 4:
        return str(parsed)
    return str(ipaddress.ip_network((parsed.packed, _SITE_BITS), strict=False))
