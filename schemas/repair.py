"""The two defects of Blu's own documented callback, read by grammar (source: callback-page.txt, "Body Params").

1. A full stop where a comma belongs, behind a whole number and before the next member: `66635573. "records"`.
2. An object inside an unescaped string: `"extVars": "{"key": "string", "intkey":10000}"`.

Nothing else is mended, and nothing is decoded here: `mend` walks the text once and says which bytes to change, so that
the strict decoder stays the only judge of what the text means.
"""

from __future__ import annotations

import re

MAX_DEPTH = 100
MAX_STEPS = (
    150_000  # members and elements read, backtracking included: 1,000 records of 150 values, about 0.2 s of work
)

_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"', re.DOTALL)
_KEY = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"[ \t\n\r]*+:[ \t\n\r]*+', re.DOTALL)
_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")
_WHOLE_NUMBER_STOP = re.compile(rb'-?(?:0|[1-9][0-9]*+)(\.)[ \t\n\r]*+(?=")')
_BEHIND_EMBEDDED = re.compile(rb'"[ \t\n\r]*+[,}\]]')
_OBJECT_END = re.compile(rb"[ \t\n\r]*+(?:(,)[ \t\n\r]*+|\})")
_ARRAY_END = re.compile(rb"[ \t\n\r]*+(?:(,)[ \t\n\r]*+|\])")
_NO = -1


class TooDeepError(ValueError):
    """Nested deeper than `MAX_DEPTH`."""


def mend(text: bytes) -> bytes | None:
    """Return `text` with the two documented defects mended, or None where it is not JSON even so.

    Raises:
        TooDeepError: nested deeper than `MAX_DEPTH`.
    """
    walk = _Walk(text)
    end = walk.object(_SPACE.match(text).end(), 1)  # type: ignore[union-attr]  # matches everywhere, the empty text included
    if end == _NO or _SPACE.match(text, end).end() != len(text):  # type: ignore[union-attr]
        return None
    return _apply(text, walk.edits)


def _apply(text: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    """Replace single bytes: `edits` holds (position, what stands there instead)."""
    pieces: list[bytes] = []
    done = 0
    for position, instead in sorted(edits):
        pieces += (text[done:position], instead)
        done = position + 1
    return b"".join((*pieces, text[done:]))


class _Walk:
    """One pass over the text; every method takes a position and returns the end of what it read, or `_NO`."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.edits: list[tuple[int, bytes]] = []
        self._steps = 0

    def object(self, at: int, depth: int) -> int:
        """Read an object, its closing brace included."""
        self._check(depth)
        if self.text[at : at + 1] != b"{":
            return _NO
        at = _SPACE.match(self.text, at + 1).end()  # type: ignore[union-attr]
        if self.text[at : at + 1] == b"}":
            return at + 1
        while self._may_step() and (key := _KEY.match(self.text, at)):
            if stop := _WHOLE_NUMBER_STOP.match(self.text, key.end()):
                self.edits.append((stop.start(1), b","))
                at = stop.end()
                continue
            behind = _OBJECT_END.match(self.text, end) if (end := self._value(key.end(), depth)) != _NO else None
            if behind is None or behind[1] is None:
                return behind.end() if behind else _NO
            at = behind.end()
        return _NO

    def _array(self, at: int, depth: int) -> int:
        self._check(depth)
        at = _SPACE.match(self.text, at + 1).end()  # type: ignore[union-attr]
        if self.text[at : at + 1] == b"]":
            return at + 1
        while self._may_step() and (end := self._value(at, depth)) != _NO:
            behind = _ARRAY_END.match(self.text, end)
            if behind is None or behind[1] is None:
                return behind.end() if behind else _NO
            at = behind.end()
        return _NO

    def _value(self, at: int, depth: int) -> int:
        first = self.text[at : at + 1]
        if first == b'"':
            embedded = self._embedded(at, depth) if self.text[at + 1 : at + 2] == b"{" else _NO
            found = None if embedded != _NO else _STRING.match(self.text, at)
            return embedded if found is None else found.end()
        if first == b"{":
            return self.object(at, depth + 1)
        if first == b"[":
            return self._array(at, depth + 1)
        scalar = _SCALAR.match(self.text, at)
        return scalar.end() if scalar else _NO

    def _embedded(self, at: int, depth: int) -> int:
        """Read `"{...}"` as an object, if a whole one stands there. `"{}"` needs no escaping: it is a good string."""
        before = len(self.edits)
        end = self.object(at + 1, depth + 1)
        is_object = end != _NO and b'"' in self.text[at + 1 : end] and _BEHIND_EMBEDDED.match(self.text, end)
        if not is_object:
            del self.edits[before:]
            return _NO
        self.edits += ((at, b""), (end, b""))
        return end + 1

    def _may_step(self) -> bool:
        self._steps += 1
        return self._steps <= MAX_STEPS

    @staticmethod
    def _check(depth: int) -> None:
        if depth > MAX_DEPTH:
            raise TooDeepError
