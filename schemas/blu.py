"""How a callback's body is read: exactly, or not at all.

The rule behind the rules: no digit, field or byte changes on the way; what cannot be read with certainty is kept as it
came. Source of the body's form and of its two defects: Blu's page "6-Dial result callback".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from . import exact
from .repair import MAX_DEPTH, TooDeepError, mend

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_RECORDS = 1_000
MAX_ID_LENGTH = 256

NOT_UTF8 = "not-utf8"
NOT_JSON = "not-json"
NO_RECORDS = "no-records"
NO_ID = "no-id"
NO_TASK = "no-task"
TOO_DEEP = "too-deep"
TOO_MANY_RECORDS = "too-many-records"
NOT_REPRESENTABLE = "not-representable"
REASONS = (NOT_UTF8, NOT_JSON, NO_RECORDS, NO_ID, NO_TASK, TOO_DEEP, TOO_MANY_RECORDS, NOT_REPRESENTABLE)

_BOM = b"\xef\xbb\xbf"
_UNWRAPPED = ("extVars", "callVars")


class UnreadableCallback(ValueError):  # noqa: N818  # the name of the thing, as the contract calls it
    """The body cannot be read with certainty; `reason` is one of `REASONS`. Nothing of the body is in the message."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BluRecord(msgspec.Struct, frozen=True):
    """One dial result. `content` is the record's canonical JSON; `record_id` its `id` as text, digits unchanged."""

    index: int
    record_id: str
    content: bytes


class UnreadableRecord(msgspec.Struct, frozen=True):
    """One record that cannot be read, beside others of the same body that can."""

    index: int
    reason: str


class CallbackBody(msgspec.Struct, frozen=True):
    """What a body says. `envelope` is the canonical JSON of its members beside `taskId` and `records`, if any."""

    task_id: str
    records: list[BluRecord]
    unreadable: list[UnreadableRecord]
    envelope: bytes | None = None


def decode_callback(body: bytes) -> CallbackBody:
    """Read a callback's body: 0, 1 or many records, strict JSON or with the two documented defects.

    Takes time linear in the body's length.

    Raises:
        UnreadableCallback: the body as a whole cannot be read, or its only record cannot.
    """
    text, value = _read(body.removeprefix(_BOM))
    names = b"::" if isinstance(value, dict) and "records" in value else b":"  # behind `taskId` and `records`
    decoded, written = _decoded(value, _inside)
    if exact.may_lose(text, names, *written):
        if exact.loses(text):
            raise UnreadableCallback(NOT_REPRESENTABLE)  # a key stands twice in one object: one would be dropped
        decoded, _ = _decoded(exact.decode(text), _inside_exactly)
    if decoded.unreadable and not decoded.records:
        raise UnreadableCallback(decoded.unreadable[0].reason)
    return decoded


def _decoded(envelope: Any, inside: Callable[[str], Any]) -> tuple[CallbackBody, list[bytes]]:  # noqa: ANN401
    """Return what the body says, and all of it but the two names encoded again. Uses up the envelope."""
    if not isinstance(envelope, dict):
        raise UnreadableCallback(NO_RECORDS)
    task_id = envelope.pop("taskId", None)
    elements = _elements(envelope)
    task = _identifier(task_id)
    if task is None:
        raise UnreadableCallback(NO_TASK)
    records, unreadable, written = _records(elements, inside)
    rest = exact.canonical(envelope) if envelope else b""
    written += (exact.canonical(task_id), rest)
    return CallbackBody(task, records, unreadable, rest or None), written


def _read(text: bytes) -> tuple[bytes, Any]:
    try:
        value = exact.decode(text)
    except RecursionError:
        raise UnreadableCallback(TOO_DEEP) from None
    except exact.FAILURES:
        text = _mended(text)
        value = _decode_mended(text)
    if exact.too_deep(text):
        raise UnreadableCallback(TOO_DEEP)
    return text, value


def _mended(text: bytes) -> bytes:
    try:
        characters = text.decode()
    except UnicodeDecodeError:
        raise UnreadableCallback(NOT_UTF8) from None
    try:
        mended = mend(text)
    except TooDeepError:
        raise UnreadableCallback(TOO_DEEP) from None
    if mended is None:
        raise UnreadableCallback(NOT_REPRESENTABLE if exact.is_json(characters) else NOT_JSON)
    return mended


def _decode_mended(text: bytes) -> Any:  # noqa: ANN401
    try:
        return exact.decode(text)
    except exact.FAILURES:
        raise UnreadableCallback(NOT_REPRESENTABLE if exact.is_json(text.decode()) else NOT_JSON) from None


def _elements(envelope: dict[str, Any]) -> list[Any]:
    """Take the records out of the envelope; a body without `records` that is itself a record counts as one."""
    if "records" not in envelope:
        if "id" not in envelope:
            raise UnreadableCallback(NO_RECORDS)
        record = envelope.copy()
        envelope.clear()
        return [record]
    elements = envelope.pop("records")
    if not isinstance(elements, list):
        raise UnreadableCallback(NO_RECORDS)
    if len(elements) > MAX_RECORDS:
        raise UnreadableCallback(TOO_MANY_RECORDS)
    return elements


def _records(
    elements: list[Any], inside: Callable[[str], Any]
) -> tuple[list[BluRecord], list[UnreadableRecord], list[bytes]]:
    records, unreadable, contents = [], [], []
    for index, element in enumerate(elements):
        record_id = None
        if isinstance(element, dict):
            record_id = _identifier(element.get("id"))
            _unwrap(element, inside)
        content = exact.canonical(element)
        contents.append(content)
        if record_id is None:
            unreadable.append(UnreadableRecord(index, NO_ID))
        else:
            records.append(BluRecord(index, record_id, content))
    return records, unreadable, contents


def _identifier(value: Any) -> str | None:  # noqa: ANN401
    text = str(value) if type(value) is int else value
    return text if isinstance(text, str) and 0 < len(text) <= MAX_ID_LENGTH else None


def _unwrap(record: dict[str, Any], inside: Callable[[str], Any]) -> None:
    """Read `extVars` and `callVars` that are properly escaped strings of an object or array as that."""
    for name in _UNWRAPPED:
        text = record.get(name)
        if isinstance(text, str) and text.lstrip(" \t\n\r")[:1] in ("{", "["):
            record[name] = inside(text)


def _inside(text: str) -> Any:  # noqa: ANN401
    """Decode what the string holds; where that is not JSON, or too deep, it stays a string.

    What decoding loses of it, the body as a whole loses too: `decode_callback` looks for that once, and then has
    `_inside_exactly` look here.
    """
    try:
        value = exact.decode(text)
    except exact.FAILURES:
        return text
    return text if len(text) > MAX_DEPTH and exact.too_deep(text.encode()) else value


def _inside_exactly(text: str) -> Any:  # noqa: ANN401
    """Do the same, and keep the string where anything of it would not survive."""
    value = _inside(text)
    if value is text or not exact.may_lose(text.encode(), exact.canonical(value)):
        return value
    return text if exact.loses(text) else value
