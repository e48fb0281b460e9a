r"""A rule file: how bodies of one kind are mended before they are decoded. Data, no code, and bounded in every way.

```toml
about = "acme's exporter writes GBK and calls the contact custId"
encoding = "gbk"                    # of bodies that are not UTF-8

[[replace]]                         # in this order, on the text; RE2 syntax: linear time, no look-around
pattern = '"amount":\s*([0-9]+),([0-9]+)'
with = '"amount": \1.\2'

[rename.record]                     # of the records' own fields; [rename.body] of those beside `records`
custId = "id"
```
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from schemas import exact
from schemas.blu import NOT_JSON, NOT_REPRESENTABLE, TOO_DEEP, UnreadableCallback
from schemas.repair import TooDeepError, mend

if TYPE_CHECKING:
    from pathlib import Path

MAX_STEPS = 20
MAX_MATCHES = 10_000  # of one pattern in one body; with the replacement's length it bounds what a body may grow by
MAX_BODY_BYTES = 2_000_000
MAX_RE2_BYTES = 8_000_000

WRONG_ENCODING = "not-in-the-rule's-encoding"
TOO_MANY_MATCHES = "too-many-matches"
TOO_LARGE = "too-large"

Encoding = Literal[
    "big5", "cp1251", "cp1252", "cp1256", "euc-kr", "gb18030", "gbk", "latin-1", "shift-jis", "utf-16", "utf-16-le"
]  # fmt: skip
_Text = Annotated[str, StringConstraints(max_length=1_000)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class RuleError(Exception):
    """The rule file cannot be used; the message says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _compiled(pattern: str) -> Any:  # noqa: ANN401  # re2 ships no types
    import re2  # noqa: PLC0415  # only who brings a rule needs it

    options = re2.Options()
    options.max_mem = MAX_RE2_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as error:
        raise ValueError(f"no RE2 pattern: {error}") from None


class Replace(_Strict):
    r"""Every match of `pattern` becomes `with_`, in which `\1` is the first group."""

    pattern: Annotated[_Text, StringConstraints(min_length=1)]
    with_: _Text = Field(alias="with")

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        _compiled(pattern)
        return pattern


class Rename(_Strict):
    """New names by old ones. A field that is there by its new name already keeps it, and the old one stays."""

    body: dict[_Name, _Name] = Field(default_factory=dict, max_length=MAX_STEPS)
    record: dict[_Name, _Name] = Field(default_factory=dict, max_length=MAX_STEPS)


class Rule(_Strict):
    """What a rule file says."""

    about: str = ""
    encoding: Encoding | None = None
    replace: tuple[Replace, ...] = Field((), max_length=MAX_STEPS)
    rename: Rename = Field(default_factory=Rename)

    def apply(self, body: bytes) -> bytes:
        """Return the mended body, to be decoded as if it had come like this. Takes time linear in its length.

        Raises:
            UnreadableCallback: it does not fit the rule; the reason is one of this file's, or the decoder's.
        """
        mended = self._replaced(self._in_utf8(body)) if self.encoding or self.replace else body
        if self.rename.body or self.rename.record:
            mended = self._renamed(mended)
        return mended

    def _in_utf8(self, body: bytes) -> str:
        """A body that is UTF-8 stays as it is: read as anything else it would turn into nonsense, silently."""
        try:
            return body.decode()
        except UnicodeDecodeError:
            pass
        try:
            return body.decode(self.encoding or "utf-8")
        except UnicodeDecodeError:
            raise UnreadableCallback(WRONG_ENCODING) from None

    def _replaced(self, text: str) -> bytes:
        for step in self.replace:
            text, matches = _compiled(step.pattern).subn(step.with_, text, MAX_MATCHES + 1)
            if matches > MAX_MATCHES:
                raise UnreadableCallback(TOO_MANY_MATCHES)
            if len(text) > MAX_BODY_BYTES:
                raise UnreadableCallback(TOO_LARGE)
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise UnreadableCallback(NOT_REPRESENTABLE) from None

    def _renamed(self, body: bytes) -> bytes:
        envelope = _object(body)
        records = envelope.get("records")
        for record in records if isinstance(records, list) else [envelope]:
            if isinstance(record, dict):
                _rename(record, self.rename.record)
        _rename(envelope, self.rename.body)
        return exact.canonical(envelope)


def load_rule(path: Path) -> Rule:
    """Read a rule file. Raises RuleError."""
    try:
        return Rule.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RuleError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RuleError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise RuleError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def _rename(fields: dict[str, Any], names: dict[str, str]) -> None:
    for old, new in names.items():
        if old in fields and new not in fields:
            fields[new] = fields.pop(old)


def _object(body: bytes) -> dict[str, Any]:
    """Decode a body without losing a digit, Blu's own two defects included."""
    try:
        text = _strict(body)
        value = exact.decode(text)
    except (TooDeepError, RecursionError):
        raise UnreadableCallback(TOO_DEEP) from None
    except exact.FAILURES:
        raise UnreadableCallback(NOT_JSON) from None
    if exact.too_deep(text):
        raise UnreadableCallback(TOO_DEEP)
    if not isinstance(value, dict) or exact.loses(text):
        raise UnreadableCallback(NOT_REPRESENTABLE)
    return value


def _strict(body: bytes) -> bytes:
    try:
        exact.decode(body)
    except RecursionError:  # one of `FAILURES` elsewhere
        raise
    except exact.FAILURES:
        return mend(body) or b""
    return body
