"""How Socket.IO clients come back: the secret they return with, and where they stand. Knows no connection."""

import base64
import hashlib
import re
import secrets

import attrs

from engine.domain.event import CatalogPosition, Epoch, UserId

_PID = re.compile(r"([\w-]{20})\.([\w-]{8})\.([0-9a-f-]{36})\.([0-9,+-]+)")


@attrs.frozen(kw_only=True)
class Pid:
    """
    What the client's library keeps in private, and sends when it returns; as long as it recovers, the same.

    It tells where the client stood when it first came, for one that has heard no event since. It grants
    nothing by itself: a client proves who it is by its token, and what is kept under the secret is found
    together with the user only.
    """

    secret: str
    owner: str
    start: CatalogPosition

    @classmethod
    def new(cls, user: UserId, start: CatalogPosition) -> "Pid":
        """
        For a client that comes for the first time, or cannot recover.
        """
        return cls(secret=secrets.token_urlsafe(15), owner=_short(user, 6), start=start)

    @classmethod
    def parsed(cls, text: object, user: UserId) -> "Pid | None":
        """
        What a client of this user sends; None when it is none of ours, or somebody else's.
        """
        match = _PID.fullmatch(text) if isinstance(text, str) else None
        if match is None or match[2] != _short(user, 6):
            return None
        start = CatalogPosition.parsed(match[4], Epoch(match[3]))
        return None if start is None else cls(secret=match[1], owner=match[2], start=start)

    @property
    def text(self) -> str:
        """
        As the client keeps it.
        """
        return f"{self.secret}.{self.owner}.{self.start.epoch}.{self.start.offset}"

    @property
    def sid(self) -> str:
        """
        The client's public id, which stays the same with it.
        """
        return _short(self.secret, 15)

    def since(self, offset: object) -> CatalogPosition | None:
        """
        Where the client stands: what it sends as its last offset, or, if it sends none, where it began.
        """
        if offset is None:
            return self.start
        found = CatalogPosition.parsed(offset, self.start.epoch) if isinstance(offset, str) else None
        # The library keeps the offset of a time before the pid, until it hears another event.
        return self.start if found is not None and found.is_before(self.start) else found


def _short(text: str, size: int) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=size).digest()
    return base64.urlsafe_b64encode(digest).decode()
