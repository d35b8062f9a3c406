"""Tokens: who somebody is, proved by a JWT. Verifying costs, so what was verified is remembered."""

import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import trio
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from conf.settings import Auth
from engine.domain.access import Identity, Role
from engine.domain.event import UserId
from engine.errors import EngineError, StartupError
from engine.live import Renewal

ISSUER = "greenroom"
# Signatures that a key set's public keys may make; HS256 is not among them: it would let a public key sign.
ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
LONGEST_TOKEN = 8192


class AuthError(EngineError):
    """
    The token proves nothing; the text says why. Answer 401, or close with 4401.
    """


@attrs.define(eq=False)
class Authenticator:
    """
    Verify tokens by the node's secret, or by the keys of a configured key set.
    """

    settings: Auth
    _key: OctKey | KeySet
    _algorithms: list[str]
    # The secret, if nobody configured one: the node may then make tokens for its own console.
    generated: bytes | None = attrs.field(default=None, repr=False)
    # What stood in the file of the key set.
    file: str | None = attrs.field(default=None, repr=False, kw_only=True)
    # Verified tokens, the least recently used first; bounded by `auth.token_cache`.
    _known: OrderedDict[str, Identity] = attrs.field(factory=OrderedDict, init=False)

    @classmethod
    def from_settings(cls, settings: Auth, secret: bytes) -> "Authenticator":
        """
        The authenticator that the settings want. Raises StartupError for a key set that cannot be read.
        """
        if settings.jwks_file:
            text = _text(Path(settings.jwks_file))
            return cls(settings, _key_set(settings.jwks_file, text), ASYMMETRIC, file=text)
        return cls(settings, OctKey.import_key(secret), ["HS256"], None if settings.secret else secret)

    def retune(self, settings: Auth) -> None:
        """
        Go by these settings, for tokens that were verified before, too; the keys stay.
        """
        self.settings = settings
        self._known.clear()

    def renewal(self) -> Renewal | None:
        """
        Other keys, if the file has others now: tokens of the old ones end. Raises StartupError.
        """
        if self.file is None:
            return None
        text = _text(Path(self.settings.jwks_file))
        if text == self.file:
            return None
        keys = _key_set(self.settings.jwks_file, text)

        def take() -> None:
            self._key, self.file = keys, text
            self._known.clear()

        return Renewal("auth.jwks_file", take)

    def identify(self, token: str) -> Identity:
        """
        Whom the token proves. Raises AuthError.
        """
        identity = self._known.get(token)
        if identity is None:
            identity = self._verify(token)
            self._known[token] = identity
            if len(self._known) > self.settings.token_cache:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(token)
        if identity.expires_at is not None and time.time() > identity.expires_at + self.settings.leeway:
            raise AuthError("the token has expired")
        return identity

    def renew(self, token: str, identity: Identity) -> Identity:
        """
        The same person, proved by a new token. Raises AuthError.
        """
        renewed = self.identify(token)
        if renewed.user != identity.user:
            raise AuthError(f"the token is {renewed.user}'s; this session is {identity.user}'s")
        return renewed

    def lasts_until(self, identity: Identity) -> float:
        """
        When what the token proves ends, by Trio's clock.
        """
        if identity.expires_at is None:
            return float("inf")
        return trio.current_time() + max(0.0, identity.expires_at + self.settings.leeway - time.time())

    def _verify(self, token: str) -> Identity:
        if len(token) > LONGEST_TOKEN:
            raise AuthError(f"the token is longer than {LONGEST_TOKEN} characters")
        try:
            claims = jwt.decode(token, self._key, algorithms=self._algorithms).claims
            self._registry().validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise AuthError(f"the token cannot be verified: {str(error).rstrip(': ')}") from None
        return self._identity(claims)

    def _registry(self) -> jwt.JWTClaimsRegistry:
        options: dict[str, Any] = {"sub": {"essential": True}}
        if self.settings.issuer:
            options["iss"] = {"essential": True, "value": self.settings.issuer}
        if self.settings.audience:
            options["aud"] = {"essential": True, "value": self.settings.audience}
        return jwt.JWTClaimsRegistry(leeway=int(self.settings.leeway), **options)

    def _identity(self, claims: Mapping[str, object]) -> Identity:
        user = claims["sub"]
        if not isinstance(user, str) or not 0 < len(user) <= 200 or not user.isprintable():
            raise AuthError("the token's `sub` must name a user in 1 to 200 printable characters")
        name = printable(claims.get("name"))
        role_name = claims.get(self.settings.role_claim, self.settings.default_role)
        role = Role.named(role_name) if isinstance(role_name, str) else None
        if role is None:
            raise AuthError(
                f"the token's `{self.settings.role_claim}` is {role_name!r}; "
                f"it must be one of {', '.join(role.name.lower() for role in Role)}"
            )
        expires = claims.get("exp")
        return Identity(
            user=UserId(user),
            name=name or user,
            role=role,
            expires_at=float(expires) if isinstance(expires, int | float) else None,
        )


def printable(name: object) -> str:
    """
    A person's name as it may be shown and stored: at most 200 characters, none of them NUL or half a pair.
    """
    return "".join(filter(str.isprintable, name))[:200].strip() if isinstance(name, str) else ""


def issue(secret: bytes, *, user: str, name: str, role: Role, ttl: float) -> str:
    """
    A token that a node with this secret accepts for `ttl` seconds.
    """
    now = time.time()
    claims = {
        "sub": user,
        "name": name,
        "role": role.name.lower(),
        "iss": ISSUER,
        "iat": int(now),
        # With its fraction (RFC 7519, section 2, NumericDate): whole seconds end up to one too early.
        "exp": now + ttl,
    }
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise StartupError(f"auth.jwks_file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StartupError(f"auth.jwks_file {path} is not UTF-8: {error}") from error


def _key_set(path: str, text: str) -> KeySet:
    try:
        return KeySet.import_key_set(json.loads(text))
    except (ValueError, KeyError, TypeError, JoseError) as error:
        raise StartupError(f"auth.jwks_file {path} is no JSON Web Key Set: {error}") from error
