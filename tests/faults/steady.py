"""A steady sender in a process of its own: `python -m tests.faults.steady PORT TOKEN RATE` until it is terminated.

Writes a line a callback to standard output: when it was sent (CLOCK_MONOTONIC), how long its answer took, its status.
Half of the callbacks ask for the ordinary lane. It runs at real-time priority where it may: the attackers share its
core, and what they take of it is not the receiver's doing.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress

CONNECTIONS = 4
BODY = b'{"taskId":1,"records":[{"id":"steady","note":"%s"}]}' % (b"x" * 1_500)


def request(token: str, headers: str) -> bytes:
    start = f"POST /callbacks/{token} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n{headers}\r\n"
    return start.encode() + BODY


def ask(connection: socket.socket, data: bytes) -> str:
    connection.sendall(data)
    answer = b""
    while b'"message"' not in answer:
        received = connection.recv(4_096)
        if not received:
            return "closed"
        answer += received
    return answer[9:12].decode()


def main() -> None:
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    port, token, rate = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    requests = [request(token, headers) for headers in ("", "Expect: ordinary\r\n")]
    connections = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(CONNECTIONS)]
    due = time.monotonic()
    number = 0
    while True:
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        status = ask(connections[number % CONNECTIONS], requests[number // CONNECTIONS % 2])
        print(began, time.monotonic() - began, status, flush=True)
        number += 1


if __name__ == "__main__":
    main()
