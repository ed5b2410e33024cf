"""Make and check viewer tokens: JWT by HS256 whose `sub` is a slug, or `*` for all. Pure, but for the clock."""

from __future__ import annotations

import time

import jwt
from jwt.exceptions import InvalidTokenError

EVERY_SITE = "*"
_ALGORITHM = "HS256"
# `exp` and `nbf` count. Platforms sign tokens of their own, whose other claims mean nothing here.
_IGNORED = {f"verify_{claim}": False for claim in ("aud", "iss", "iat", "jti")}


def make_token(secret: bytes, slug: str, seconds: float) -> str:
    """Return a token that lets its holder see one site, or every site, for so long."""
    return jwt.encode({"sub": slug, "exp": int(time.time() + seconds)}, secret, _ALGORITHM)


def read_token(secret: bytes, token: str) -> str | None:
    """Return whose builds a token shows: a slug or EVERY_SITE; nothing if it is not valid now."""
    try:
        claims = jwt.decode(token, secret, [_ALGORITHM], options={"require": ["exp", "sub"], **_IGNORED})
    except (InvalidTokenError, ValueError, TypeError, OverflowError):
        return None
    subject = claims["sub"]
    return subject if isinstance(subject, str) else None
