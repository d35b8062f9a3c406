"""What is drawn, and what comes of it; and its way between the node and the process that draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

# What the process tells, each in a line: a word, a blank, and JSON. After DRAWN comes the picture.
PROGRESS, REFUSED, CRASHED, DRAWN = b"progress", b"refused", b"crashed", b"drawn"


@attrs.frozen(kw_only=True)
class Order:
    """
    Layers as they are stored, for a canvas of so many pixels; images are below `data_dir`.
    """

    layers: Sequence[Mapping[str, Any]]
    width: int
    height: int
    data_dir: Path


@attrs.frozen(kw_only=True)
class Drawn:
    """
    The picture as a PNG, and what whoever asked for it should know.
    """

    png: bytes
    warnings: list[str]


class UndrawableError(Exception):
    """
    The layers cannot be drawn; the text says why, each wrong field in a line. To try again is of no use.
    """
