"""Named SQL: reads the `-- name:` sections of the .sql files beside it; one may be `-- here:` in others."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_HERE = re.compile(r"^-- here: (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> Mapping[str, LiteralString]:
    """
    The statements of `engine/store/<file>.sql` by name.
    """
    parts = _NAME.split((Path(__file__).parent / f"{file}.sql").read_text("utf-8"))
    found = {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    found = {name: _HERE.sub(lambda here: found[here[1]], text) for name, text in found.items()}
    # Files of the package are as trustworthy as its code, which is what LiteralString says.
    return cast(Mapping[str, LiteralString], found)
