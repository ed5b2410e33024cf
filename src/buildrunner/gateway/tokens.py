"""Create and verify viewer tokens: JWT by HS256 whose `sub` is a slug, or `*` for all sites. Pure, except for the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping

import jwt
from jwt.exceptions import InvalidTokenError
from jwt.types import Options

from buildrunner.config.environment import EnvironmentReader
from buildrunner.gateway.events import SLUG
from buildrunner.gateway.settings import EVERY_SITE, encode_secret

_ALGORITHM = "HS256"
_MAX_SECONDS = 10 * 365 * 86400
# Only `exp` and `nbf` are verified. Platforms sign their own tokens, whose other claims mean nothing here.
_OPTIONS: Options = {
    "require": ["exp", "sub"],
    "verify_aud": False,
    "verify_iss": False,
    "verify_iat": False,
    "verify_jti": False,
}


def make_token(secret: bytes, slug: str, seconds: float) -> str:
    """Return a token for one site, or for every site, that is valid for so many seconds."""
    return jwt.encode({"sub": slug, "exp": int(time.time() + seconds)}, secret, _ALGORITHM)


def read_token(secret: bytes, token: str) -> str | None:
    """Return whose builds a token shows: a slug or EVERY_SITE; None if it is not valid now."""
    try:
        claims = jwt.decode(token, secret, [_ALGORITHM], options=_OPTIONS)
    except (InvalidTokenError, ValueError, TypeError, OverflowError):
        return None
    # https://www.rfc-editor.org/rfc/rfc7519#section-2: a NumericDate is a number; PyJWT takes the text of one too.
    if not all(isinstance(claims.get(name, 0), int | float) for name in ("exp", "nbf")):
        return None
    subject = claims["sub"]
    return subject if isinstance(subject, str) else None


def print_token(environment: Mapping[str, str], slug: str, seconds: int) -> int:
    """Print a token on stdout, for `buildrunner token`.

    Raises:
        ConfigurationError: the secret, the slug or the time is missing or malformed.

    """
    reader = EnvironmentReader(environment, "token")
    secret = reader.read()["GATEWAY_SECRET"]
    if slug != EVERY_SITE and not SLUG.fullmatch(slug):
        reader.problems.append(f"SLUG is {slug!a}, but must be the slug of a site, or * for every site.")
    if not 0 < seconds <= _MAX_SECONDS:
        reader.problems.append(f"--ttl is {seconds}, but must be 1 to {_MAX_SECONDS} seconds.")
    reader.raise_problems()
    print(make_token(encode_secret(secret), slug, seconds))
    return 0
