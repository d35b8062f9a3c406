"""Values that nobody may read in a log, a mistake or a traceback, and how they are shown instead."""

import re
from collections.abc import Mapping

from conf.kinds import Kind, read_text, toml

MASK = "***"

_USER_AND_PASSWORD = re.compile(r"(//[^:/@]*:).*@", re.DOTALL)
_PASSWORD_PARAMETER = re.compile(r"([?&](?:ssl)?password=)[^&]*")


def mask(value: object) -> str:
    """
    Show that something is there, and nothing of it.
    """
    return toml(MASK if value else "")


def mask_text(value: object) -> str:
    """
    Show flags and numbers, and mask the rest: for options of which nobody here knows what they hold.
    """
    return toml(value) if isinstance(value, bool | int | float) else mask(value)


def mask_tables(tables: object) -> str:
    """
    Show which plugins have settings of their own, for the `repr` of the tree.
    """
    return f"<{', '.join(tables)}>" if isinstance(tables, Mapping) else MASK


def mask_password(value: object) -> str:
    """
    Show a database URL without its password; what is not such a URL is masked as a whole.
    """
    try:
        url = _read_url(value)
    except ValueError:
        return mask(value)
    # Greedy up to the last @, because a password may hold one that nobody escaped.
    url = _USER_AND_PASSWORD.sub(rf"\1{MASK}@", url)
    return toml(_PASSWORD_PARAMETER.sub(rf"\1{MASK}", url))


def _read_url(value: object) -> str:
    url = read_text(value)
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("not a URL of PostgreSQL's")
    return url


def _read_secret(value: object) -> str:
    text = read_text(value)
    # RFC 7518, section 3.2: a key shorter than its hash makes HS256 weaker than it promises.
    if text and len(text.encode()) < 32:
        raise ValueError("too short")
    return text


SECRET = Kind(wanted="a text of at least 32 bytes, or empty", read=_read_secret, show=mask, secret=True)
DATABASE_URL = Kind(
    wanted='a URL such as "postgresql://user:password@host:5432/database", or empty',
    read=_read_url,
    show=mask_password,
    secret=True,
)
