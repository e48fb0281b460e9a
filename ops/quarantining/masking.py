"""Bodies without a word of what they say: names of documented fields, and what kind of value stands where.

It works on bytes that no decoder could read. Whatever is not known to be harmless is masked, so that a quote in the
wrong place lets nothing through.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHAPE_DEPTH = 3  # body, records, record: what is in the variables differs from merchant to merchant
_SHAPE_LENGTH = 240
_SHOWN_LENGTH = 4_000
_REPEATS = 12  # passes that fold neighbours which are the same; each at least halves them

# Names of fields that Blu documents, or that are likely (schemas/merchants.py). Any other key may be a person's name.
_KNOWN = frozenset(
    b"taskId records id name mobile extVars callVars conclusion callConclusion callResult callTime calledAt"
    b" callStartTime startTime dialTime duration callDuration durationSeconds slots scripts dialCount jobId code"
    b" message data count".split()
)

_TOKEN = re.compile(
    rb'(?P<string>"(?:[^"\\]|\\.)*+")'
    rb"|(?P<number>-?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)"
    rb"|(?P<word>true|false|null)(?![A-Za-z0-9_])"
    rb"|(?P<mark>[{}\[\]:,])"
    rb"|(?P<space>[ \t\r\n]++)"
    rb'|(?P<stop>\.(?=[\s"]))'
    rb"|(?P<other>[^{}\[\]:,\"0-9 \t\r\n]++|.)",
    re.DOTALL,
)
_INSTEAD = {"number": "0", "space": " ", "other": "?"}
_COLON_BEHIND = re.compile(rb"[ \t\r\n]*+:")


def masked(body: bytes) -> str:
    """Return the body in one line, texts by their length in bytes, numbers as 0, `?` for what is no JSON."""
    text = "".join(token for token, _ in _tokens(body[: 4 * _SHOWN_LENGTH], lengths=True))
    text = re.sub(r"\?[? ]*", "?", text)
    is_whole = len(text) <= _SHOWN_LENGTH and len(body) <= 4 * _SHOWN_LENGTH
    return text if is_whole else text[:_SHOWN_LENGTH] + " ..."


def shape(body: bytes) -> str:
    """Return what bodies of one kind have in common: as `masked`, no deeper than a record, neighbours folded."""
    text = "".join(token for token, depth in _tokens(body[:65_536], lengths=False) if depth <= _SHAPE_DEPTH)
    text = text.replace(" ", "")
    text = re.sub(r"\?+", "?", text)
    for _ in range(_REPEATS):
        text, changes = re.subn(r"(\"…\":(?:\"…\"|0|null|true|false|\{\}|\[\]),)\1+", r"\1", text)
        if not changes:
            break
    return text if len(text) <= _SHAPE_LENGTH else text[:_SHAPE_LENGTH] + "..."


def name_of(reason: str, of_shape: str) -> str:
    """Name a group of bodies in eight characters, to be used as `--shape`."""
    return hashlib.sha256(f"{reason}\0{of_shape}".encode()).hexdigest()[:8]


def _tokens(body: bytes, *, lengths: bool) -> Iterator[tuple[str, int]]:
    """Yield what to show and how deep it stands; brackets count as outside of what they enclose."""
    depth = 0
    for found in _TOKEN.finditer(body):
        token = found.group()
        if token in (b"}", b"]"):
            depth = max(0, depth - 1)
        yield _shown(body, found, lengths=lengths), depth
        if token in (b"{", b"["):
            depth += 1


def _shown(body: bytes, found: re.Match[bytes], *, lengths: bool) -> str:
    if found.lastgroup != "string":
        return _INSTEAD.get(str(found.lastgroup)) or found.group().decode()
    inside = found.group()[1:-1]
    if inside in _KNOWN and _COLON_BEHIND.match(body, found.end()):
        return f'"{inside.decode()}"'
    return f'"…{len(inside)}"' if lengths else '"…"'
