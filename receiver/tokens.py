"""Whose callback it is: the merchants' tokens, known by their hashes alone."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import structlog

from receiver.files import Watch
from schemas.merchants import Merchant, MerchantsFileError, load_merchants

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = structlog.get_logger()

PREFIX = "/callbacks/"
_METHOD = "POST"


class ActiveToken:
    """A token that may post, while `active`. `last_seen_s`: seconds since 1970, 0 if this process has not seen it."""

    __slots__ = ("active", "digest", "last_seen_s", "merchant", "token_id")

    def __init__(self, merchant: str, token_id: str, digest: bytes) -> None:
        self.merchant = merchant
        self.token_id = token_id
        self.digest = digest
        self.last_seen_s = 0.0
        self.active = True


class Tokens:
    """The tokens of the merchants' file, read again when it changes; a broken file keeps the old ones."""

    def __init__(self, path: Path) -> None:
        """Raises MerchantsFileError."""
        self._path = path
        self._watch = Watch(path)
        self.active: tuple[ActiveToken, ...] = _active(load_merchants(path))
        self.file_ok = True

    def match(self, method: str, path: str) -> ActiveToken | None:
        """Return the token that this request carries, if it is a callback.

        Hashes whatever came and compares it with every active token, always: the time that a miss takes says nothing
        about which part of it was wrong.
        """
        text = path[len(PREFIX) :].partition("?")[0] or path  # hashing nothing would be a little faster
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        found = None
        for token in self.active:
            if hmac.compare_digest(digest, token.digest):
                found = token
        return found if method == _METHOD and path.startswith(PREFIX) else None

    def reload(self) -> None:
        """Read the file now. A broken one changes nothing, but says so in the log and in `file_ok`."""
        self._watch.note()
        try:
            merchants = load_merchants(self._path)
        except MerchantsFileError as error:
            self.file_ok = False
            log.error("merchants_file_broken", reason=str(error), consequence="the tokens read before stay good")  # noqa: TRY400
            return
        self._take(_active(merchants))
        log.info("merchants_file_read", merchants=len(merchants), tokens=len(self.active))

    async def follow(self) -> None:
        """Read the file again whenever it changes. Runs until it is cancelled."""
        await self._watch.follow(self.reload)

    def _take(self, active: tuple[ActiveToken, ...]) -> None:
        seen = {(token.merchant, token.token_id): token.last_seen_s for token in self.active}
        for token in self.active:
            token.active = False  # whoever keeps one has to match again
        for token in active:
            token.last_seen_s = seen.get((token.merchant, token.token_id), 0.0)
        self.active = active
        self.file_ok = True


def _active(merchants: Mapping[str, Merchant]) -> tuple[ActiveToken, ...]:
    return tuple(
        ActiveToken(merchant.name, token.id, bytes.fromhex(token.sha256))
        for merchant in merchants.values()
        for token in merchant.tokens
    )
