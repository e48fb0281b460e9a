"""Strings that must never come out: one in every place that a sender, or an operator's secret, can put one."""

from __future__ import annotations

from tests.unit.receivers import TOKEN

HEADER_VALUE = "canary-static-header"
BODY = (
    b'{"taskId":"canary-task","canary-field":"canary-value","records":[{"id":"canary-id","name":"canary-name",'
    b'"mobile":"canary-mobile","extVars":{"canary-key":"canary-ext"},"callVars":"{\\"a\\":\\"canary-call\\"}"}]}'
)
BODIES = {
    "readable": BODY,
    "defect": b'{"taskId":1,"records":[{"id":"canary-id"."name":"canary-name","extVars":"{"a":"canary-ext"}"}]}',
    "cut off": BODY[:-20],
    "no json": b"canary \xff\xfe canary",
    "no id": b'{"taskId":1,"records":[{"name":"canary-name"}]}',
    "digits": b'{"taskId":1,"records":[{"id":1,"canary":%s}]}' % (b"9" * 5_000),
    "brackets": b"[" * 50_000 + b"canary",
    "empty": b"",
    "large": b'{"canary":"' + b"canary" * 8_000 + b'"}',
}
_HEADERS = (
    f"X-Blu-Key: {HEADER_VALUE}\r\nX-Canary: canary-header\r\nUser-Agent: canary-agent\r\nCookie: canary=cookie\r\n"
)
_PATHS = (f"/callbacks/{TOKEN}", f"/callbacks/{TOKEN}?canary=query", "/callbacks/canary-wrong", "/canary?canary#canary")


def ask(method: str, path: str, body: bytes, headers: str = _HEADERS, version: str = "HTTP/1.1") -> bytes:
    start = f"{method} {path} {version}\r\nHost: canary-host\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return start.encode() + body


def good() -> list[bytes]:
    """Return callbacks that are taken: every body, by both lanes."""
    lanes = ("", "Expect: canary\r\n", "Content-Encoding: gzip\r\n")
    return [ask("POST", _PATHS[0], body, _HEADERS + lane) for body in BODIES.values() for lane in lanes]


def refused() -> list[bytes]:
    """Return well-formed requests that are refused."""
    return [
        *(ask(method, path, BODY) for method in ("POST", "GET", "DELETE", "OPTIONS") for path in _PATHS[1:]),
        *(ask("POST", _PATHS[0], BODY, headers) for headers in ("X-Blu-Key: canary-other\r\n", "X-Canary: canary\r\n")),
        ask("PUT", _PATHS[0], BODY),
        ask("POST", _PATHS[0], b"canary" * 200_000),
        ask("POST", _PATHS[0], b"canary", f"{_HEADERS}Connection: Upgrade\r\nUpgrade: canary\r\n"),
    ]


def malformed() -> list[bytes]:
    """Return what is not HTTP, each with the token and other canaries in it."""
    line = f"POST {_PATHS[0]} HTTP/1.1\r\nHost: canary\r\n"
    return [
        ask("POST", _PATHS[0], BODY, version="HTTP/9.9"),
        ask("POST", _PATHS[0], BODY, version="HTTP/0.9"),
        ask("POST", f"{_PATHS[0]} canary", BODY),
        ask("CANARY", _PATHS[0], BODY),
        f"POST {_PATHS[0]}\r\n\r\n".encode(),
        f"{line}canary header\r\n\r\n".encode(),
        f"{line}X-Canary : canary\r\n\r\n".encode(),
        f"{line}X-Canary: {'canary' * 2_000}\r\n\r\n".encode(),
        f"{line}Transfer-Encoding: chunked\r\n\r\ncanary\r\n".encode(),
        f"{line}Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\ncanary".encode(),
        f"{line}Transfer-Encoding: canary\r\n\r\n".encode(),
        f"{line}Content-Length: canary\r\n\r\n".encode(),
        f"{line}Content-Length: 9999\r\n{_HEADERS}\r\ncanary".encode(),
        f"POST {_PATHS[0]}\x00canary HTTP/1.1\r\n\r\n".encode(),
        f"POST /callbacks/{'canary' * 2_000} HTTP/1.1\r\n\r\n".encode(),
        f"CONNECT canary:443 HTTP/1.1\r\nHost: {TOKEN}\r\n\r\n".encode(),
        b"\x16\x03\x01\x02\x00canary" + TOKEN.encode(),
    ]


def every() -> list[bytes]:
    """Return all of them."""
    return [*good(), *refused(), *malformed()]


def hits(said: str) -> list[str]:
    """Return the surroundings of every canary that came out."""
    found, at = [], said.lower().find("canary")
    while at >= 0:
        found.append(said[max(0, at - 80) : at + 40])
        at = said.lower().find("canary", at + 1)
    return found
