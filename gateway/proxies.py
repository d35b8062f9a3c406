"""Who a request comes from when it came through proxies that are trusted to say so."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import attrs

# Addresses of one header that are looked at: a client may send as many as it likes.
LOOKED_AT = 20


@attrs.define(eq=False)
class Proxies:
    """
    Own which proxies are trusted, by address or network.

    Nobody else's X-Forwarded-For counts: anybody can send one.
    """

    trusted: Sequence[str]

    def seen(self, scope: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        The scope with the client that the nearest trusted proxies have seen; the same if none is in between.
        """
        peer = scope.get("client")
        if not self.trusted or peer is None or not self._trusts(peer[0]):
            return scope
        for address in reversed(_forwarded_for(scope)):
            if (client := _address(address)) is None:
                break
            scope = {**scope, "client": (str(client), 0)}
            if not self._trusts(str(client)):
                break
        return scope

    def _trusts(self, address: str) -> bool:
        client = _address(address)
        return client is not None and any(client in ip_network(one, strict=False) for one in self.trusted)


def _forwarded_for(scope: Mapping[str, Any]) -> list[str]:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return list[str](",".join(values).split(",")[-LOOKED_AT:]) if values else []


def _address(text: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        found = ip_address(text.strip().strip("[]"))
        # What came in over an IPv6 socket, by IPv4.
        return getattr(found, "ipv4_mapped", None) or found
    return None
