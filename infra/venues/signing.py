"""How requests to the simulated exchange are signed, for its client and for the exchange itself.

The signature covers method, path, time and body, so that none of them can be changed, and a request that somebody has
kept is refused once it is old.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from infra.venues.binance.credentials import Credentials

KEY: Final = "X-TM-APIKEY"
TIME: Final = "X-TM-TIMESTAMP"
SIGNATURE: Final = "X-TM-SIGNATURE"
WINDOW_MS: Final = 5_000
"""So far a request's time may be from the exchange's, either way."""


def signed_headers(credentials: Credentials, method: str, path: str, body: bytes, now_ms: int) -> dict[str, str]:
    """Return the headers of a request; ``path`` is as it is sent, with its query."""
    signature = credentials.sign(_payload(method, path, str(now_ms), body))
    return {KEY: credentials.key, TIME: str(now_ms), SIGNATURE: signature}


def refusal(
    credentials: Credentials, headers: Mapping[str, str], request: tuple[str, str, bytes], now_ms: int
) -> str | None:
    """Return why a request (method, path, body) is not let in, or None."""
    key, time_text, signature = (headers.get(name, "") for name in (KEY, TIME, SIGNATURE))
    if not (key and time_text.isdecimal() and len(time_text) < 20 and signature.isascii() and signature):
        return "the request is not signed"
    method, path, body = request
    expected = credentials.sign(_payload(method, path, time_text, body))
    # Both are looked at in constant time, whichever is wrong.
    same_key = hmac.compare_digest(key.encode(), credentials.key.encode())
    if not (hmac.compare_digest(signature, expected) and same_key):
        return "the signature is not of this key and request"
    if abs(now_ms - int(time_text)) > WINDOW_MS:
        return "the signature is too old, or from the future"
    return None


def _payload(method: str, path: str, time_text: str, body: bytes) -> str:
    return f"{method}\n{path}\n{time_text}\n{hashlib.sha256(body).hexdigest()}"
