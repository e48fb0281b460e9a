"""Callbacks on many connections at once, and a kill that comes right behind an answer.

A thread of its own and raw sockets: between the answer's last byte and SIGKILL lie some ten microseconds, in which a
receiver that answers too early has not stored what it promised.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from dataclasses import dataclass, field

from .receiver import ANSWER, Receiver, callback

CONNECTIONS = 48


@dataclass
class Sender:
    """One connection with one callback under way."""

    connection: socket.socket
    record_id: str = ""
    answer: bytes = b""


@dataclass
class Burst:
    """Posts on every connection, again as soon as it is answered, until the process is killed behind an answer."""

    receiver: Receiver
    prefix: str
    padding: int
    acknowledged: set[str] = field(default_factory=set)

    def kill_behind(self, pid: int, answers: int) -> None:
        """Kill the process as soon as so many answers came, then take what had been sent before."""
        with selectors.DefaultSelector() as ready:
            for _ in range(CONNECTIONS):
                sender = Sender(socket.create_connection(("127.0.0.1", self.receiver.port), timeout=10))
                ready.register(sender.connection, selectors.EVENT_READ, sender)
            for number, key in enumerate(list(ready.get_map().values())):
                self._post(key.data, number)
            number = CONNECTIONS
            while len(self.acknowledged) < answers:
                for key, _ in ready.select(10):
                    if not self._take(key.data):
                        continue
                    if len(self.acknowledged) >= answers:
                        os.kill(pid, signal.SIGKILL)
                        break
                    self._post(key.data, number)
                    number += 1
            for key in list(ready.get_map().values()):
                self._take_the_rest(key.data)

    def _post(self, sender: Sender, number: int) -> None:
        sender.record_id, sender.answer = f"{self.prefix}-{number}", b""
        body = callback(sender.record_id, self.padding)
        start = f"POST /callbacks/{self.receiver.token} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sender.connection.sendall(start.encode() + body)

    def _take(self, sender: Sender) -> bool:
        """Read what is there; return whether the answer is whole. Only a 200 is a promise."""
        received = sender.connection.recv(4_096)
        assert received, "closed before the kill"
        sender.answer += received
        if not sender.answer.endswith(b"}"):
            return False
        if sender.answer.startswith(b"HTTP/1.1 200 ") and sender.answer.endswith(ANSWER):
            self.acknowledged.add(sender.record_id)
        return True

    def _take_the_rest(self, sender: Sender) -> None:
        with sender.connection as connection:
            try:
                while received := connection.recv(4_096):
                    sender.answer += received
            except ConnectionError:
                pass
        if sender.answer.startswith(b"HTTP/1.1 200 ") and sender.answer.endswith(ANSWER):
            self.acknowledged.add(sender.record_id)
