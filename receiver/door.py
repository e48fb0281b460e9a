"""Who is let in besides knowing the token: an optional static header, optional networks. Both off by default.

Behind proxies the sender's address is found in `X-Forwarded-For`, which every proxy extends on its right. It is read
from the right, and only as far as the one who wrote an entry is trusted: what stands left of that is a mere claim.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multidict import CIMultiDict, CIMultiDictProxy

Network = IPv4Network | IPv6Network

HEADER = "header"
ADDRESS = "address"
CAUSES = (HEADER, ADDRESS)

_FORWARDED = "X-Forwarded-For"
_HOPS = 16  # that are read past the last; no one has more proxies; a longer list is made up, and reading it takes time


@dataclass(frozen=True)
class Door:
    """What a sender has to bring. `allowed` empty: any address; `header` empty: no header."""

    header: str = ""
    header_sha256: bytes = b""
    allowed: tuple[Network, ...] = ()
    trusted: tuple[Network, ...] = ()

    def refuses(self, headers: CIMultiDict[str] | CIMultiDictProxy[str], peer: str | None) -> str | None:
        """Return one of CAUSES, or None for whoever may come in; `peer` is the address of the connection."""
        header_misses = bool(self.header) and not self._header_matches(headers)
        if self.allowed and not self._is_allowed(self._sender(headers, peer)):
            return ADDRESS
        return HEADER if header_misses else None

    def _header_matches(self, headers: Mapping[str, str]) -> bool:
        value = headers.get(self.header, "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(hashlib.sha256(value).digest(), self.header_sha256)

    def _is_allowed(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and _within(address, self.allowed)

    def _sender(
        self, headers: CIMultiDict[str] | CIMultiDictProxy[str], peer: str | None
    ) -> IPv4Address | IPv6Address | None:
        address = _address(peer or "")
        if address is None or not _within(address, self.trusted):
            return address
        forwarded = ",".join(headers.getall(_FORWARDED, ()))
        if not forwarded:
            return address  # the proxy speaks for itself
        for entry in reversed(forwarded.rsplit(",", _HOPS)):  # what is left of the last hop counted is no address
            address = _address(entry)
            if address is None or not _within(address, self.trusted):
                return address
        return address


def digest(value: str) -> bytes:
    """Return what a header's value is known by."""
    return hashlib.sha256(value.encode()).digest()


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=1_024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address as proxies write it: with a port or brackets at times; None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
