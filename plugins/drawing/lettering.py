"""Breaks text into lines and draws them, in a font that comes with Greenroom: every node draws alike."""

from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path(__file__).parent / "fonts" / "Roboto-Regular.ttf"
ELLIPSIS = "…"
# No font has it: what is drawn for it is drawn for everything that the font does not have.
_NOBODYS = "\uffff"


@lru_cache(maxsize=32)
def font_of(size: float) -> ImageFont.FreeTypeFont:
    """
    The font at a size in pixels.
    """
    # The other layout engine depends on libraries of the machine, and would draw differently elsewhere.
    return ImageFont.truetype(FONT, size, layout_engine=ImageFont.Layout.BASIC)


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """
    The pixels from one line to the next.
    """
    return sum(font.getmetrics())


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """
    The lines, broken at blanks; a word that is wider than `width` is broken within.

    Every line has a character at least, however narrow the width, and line breaks of the text are kept.
    """
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            for part in _parts(word, font, width):
                longer = f"{line} {part}" if line else part
                if line and font.getlength(longer) > width:
                    lines.append(line)
                    line = part
                else:
                    line = longer
        lines.append(line)
    return lines


def shorten(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """
    The line with an ellipsis, as much of it as has room.
    """
    while line and font.getlength(line + ELLIPSIS) > width:
        line = line[:-1].rstrip()
    return line + ELLIPSIS


def stencil(line: str, font: ImageFont.FreeTypeFont) -> tuple[Image.Image, int, int]:
    """
    The line as opacity, and where its upper left corner lies from where the line begins, at the line's top.
    """
    left, top, right, bottom = (ceil(edge) for edge in font.getbbox(line, anchor="la"))
    # A pixel more on each side: the box is rounded, and what is beyond would be cut.
    mask = Image.new("L", (max(right - left, 1) + 2, max(bottom - top, 1) + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), line, fill=255, font=font, anchor="la")
    return mask, left - 1, top - 1


def missing(text: str) -> list[str]:
    """
    The characters of the text that the font does not have.
    """
    return [char for char in sorted(set(text)) if not char.isspace() and not _has(char)]


def _parts(word: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[str]:
    while word:
        most = _fitting(word, font, width)
        yield word[:most]
        word = word[most:]


def _fitting(word: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """
    How many of the word's first characters are as wide as `width` at most; 1 at least.

    By doubling, then by halving: what it costs goes with the answer, not with the word.
    """
    fits, too_many = 1, 2
    while too_many <= len(word) and font.getlength(word[:too_many]) <= width:
        fits, too_many = too_many, too_many * 2
    if too_many > len(word):
        if font.getlength(word) <= width:
            return len(word)
        too_many = len(word)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if font.getlength(word[:middle]) > width:
            too_many = middle
        else:
            fits = middle
    return fits


@lru_cache(maxsize=4096)
def _has(char: str) -> bool:
    font = font_of(20)
    return stencil(char, font)[0].tobytes() != stencil(_NOBODYS, font)[0].tobytes()
