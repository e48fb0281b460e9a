"""Ports that nothing else will take while a part is down."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Below every system's range for outgoing connections: there, a client that keeps asking a port whose server is down
# could be given that very port as its own, and be connected to itself.
_RANGE = range(20_000, 32_000)
_TRIES = 1_000


class PortTaken(Exception):  # noqa: N818  # a state of affairs
    """Something else listens on a port of ours; the message says which."""


def free_ports(names: Iterable[str], taken: Iterable[int] = ()) -> dict[str, int]:
    """Choose a free port for each name, all different, none of `taken`. Raises OSError where none is free."""
    wanted, not_again = list(names), set(taken)
    chosen: list[int] = []
    for port in random.sample(_RANGE, _TRIES):
        if len(chosen) == len(wanted):
            break
        if port not in not_again and is_free(port):
            chosen.append(port)
    if len(chosen) < len(wanted):
        raise OSError("no free ports on 127.0.0.1")
    return dict(zip(wanted, chosen, strict=True))


def is_free(port: int) -> bool:
    """Tell whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger are no hindrance
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check_free(ports: Mapping[str, int]) -> None:
    """Raise PortTaken if something listens on one of them."""
    for name, port in ports.items():
        if not is_free(port):
            raise PortTaken(f"port {port} ({name}) is taken by another program; choose another: --port {name}=NUMBER")
