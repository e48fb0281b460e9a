"""The last moment of a listening socket: what the kernel holds for us is answered, what comes later is not begun."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from receiver.listening import _drop_new_ones, take_the_last

from .receivers import Answered, post, running

CLIENTS = 40


def connected(port: int, count: int) -> list[socket.socket]:
    """Open connections, and say something on each, without giving the event loop a turn."""
    clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(count)]
    for client in clients:
        client.sendall(post())
    return clients


def answers(clients: list[socket.socket]) -> list[int]:
    statuses = []
    for client in clients:
        with client, client.makefile("rb") as stream:
            statuses.append(Answered(stream.read()).status)
    return statuses


async def test_a_stop_answers_what_waits_in_the_kernel(tmp_path: Path) -> None:
    async with running(tmp_path) as one:
        clients = connected(one.receiver.port, CLIENTS)
    assert await asyncio.to_thread(answers, clients) == [200] * CLIENTS


def can_hold_back() -> bool:
    with socket.create_server(("127.0.0.1", 0)) as other:
        try:
            _drop_new_ones(other.fileno())
        except OSError:
            return False
    return True


async def test_nobody_begins_a_connection_once_the_last_are_taken() -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with server:
        if not can_hold_back():
            pytest.skip("SKIPPED: this kernel takes no filter at a listening socket, and nothing is held back then")
        address = server.sockets[0].getsockname()
        with socket.create_connection(address, timeout=5):  # before
            await take_the_last(server.sockets)
            with pytest.raises(TimeoutError):
                await asyncio.to_thread(socket.create_connection, address, 0.3)
