"""Access tokens by OAuth 2.0's client credentials flow, for Salesforce, whose tokens end after hours.

https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm: the application's id
and secret, posted as a form to `/services/oauth2/token` of one's own domain; the answer does not say when it ends.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from .answers import json_of
from .outcome import UNAUTHORISED, Retry

if TYPE_CHECKING:
    from .settings import Settings

_PATH = "/services/oauth2/token"
_FRESH_S = 60.0  # a token that is refused so soon was never good: asking for another one would not help
_REFUSED = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class Grants:
    """Asks for a token when there is none. Raises nothing but cancellation and bugs."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.url + _PATH
        self._pause_s = settings.pause_s
        self._form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id or "",
            "client_secret": settings.token.get_secret_value(),
        }
        self._token: str | None = None
        self._since = 0.0
        self._asking = asyncio.Lock()

    async def token(self, session: aiohttp.ClientSession) -> str | Retry:
        """Return the token in use, or a new one; a Retry if none is to be had now."""
        async with self._asking:
            if self._token is None:
                granted = await self._ask(session)
                if isinstance(granted, Retry):
                    return granted
                self._token, self._since = granted, time.monotonic()
            return self._token

    def ended(self, token: str) -> bool:
        """Forget a token that was refused; tell whether it simply came to its end."""
        old = time.monotonic() - self._since > _FRESH_S
        if token == self._token:
            self._token = None
            return old
        return True  # another call has seen to it

    async def _ask(self, session: aiohttp.ClientSession) -> str | Retry:
        try:
            async with session.post(self._url, data=self._form, allow_redirects=False) as response:
                status, body = response.status, json_of(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Retry(f"crm-token-{type(error).__name__}")
        token = body.get("access_token") if isinstance(body, dict) else None
        if status == HTTPStatus.OK and isinstance(token, str):
            return token
        return Retry(UNAUTHORISED, self._pause_s) if status in _REFUSED else Retry(f"crm-token-status-{status}")
