"""Signs a webhook by the rules of Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: `webhook-id`,
`webhook-timestamp` (whole seconds since 1970) and `webhook-signature` (`v1,` and the base64 of HMAC-SHA256 over
`id.timestamp.body`). A secret is 24 to 64 random bytes, written as `whsec_` and their base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)


def secret_bytes(written: str) -> bytes:
    """Read a secret. Raises ValueError, without the secret in it."""
    try:
        secret = base64.b64decode(written.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is whsec_ and base64") from error
    if len(secret) not in _SECRET_BYTES:
        raise ValueError("a webhook secret has 24 to 64 bytes before base64")
    return secret


def signed(secret: bytes, message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers."""
    content = f"{message_id}.{timestamp_s}.".encode() + body
    digest = base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp_s), "webhook-signature": f"v1,{digest}"}
