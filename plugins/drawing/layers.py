"""What a composition's layers mean: as stored, made ready to be drawn, or every mistake in them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import attrs
from PIL import ImageColor

from engine.domain.composition import MAX_NUMBER
from engine.domain.fields import FieldError, Invalid
from plugins.beneath import relative_path

Color = tuple[int, int, int, int]
Align = Literal["left", "center", "right"]
Fit = Literal["contain", "cover", "fill"]

WHITE: Color = (255, 255, 255, 255)
BLACK: Color = (0, 0, 0, 255)
SIZE = 48
MIN_SIZE, MAX_SIZE = 1, 1000
# A line is drawn whole before what is beyond the canvas is cut off.
MAX_LINE = 16_384

COLOR_RULE = "must be a colour: #RGB, #RRGGBB, #RRGGBBAA, rgb(…), rgba(…), hsl(…) or a name of CSS"
_RGBA = re.compile(r"rgba\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d*\.?\d+)\s*\)")


@attrs.frozen(kw_only=True)
class Box:
    """
    A filled rectangle. Places and lengths are pixels of the canvas, from its upper left corner.
    """

    x: float
    y: float
    width: float
    height: float
    color: Color


@attrs.frozen(kw_only=True)
class Text:
    """
    Text, wrapped at `width`; lines that find no room in `height` are left out.
    """

    x: float
    y: float
    width: float
    height: float | None
    text: str
    size: float
    color: Color
    align: Align


@attrs.frozen(kw_only=True)
class Picture:
    """
    An image file; a length that is None follows from the other one, or from the file.
    """

    x: float
    y: float
    width: float | None
    height: float | None
    image: str
    fit: Fit


Layer = Box | Text | Picture


def read_layers(given: Sequence[Mapping[str, Any]], width: int, height: int) -> list[Layer] | Invalid:
    """
    The layers for a canvas of this many pixels, or all that is wrong with them.

    `given` has passed `engine.domain.composition`.
    """
    layers: list[Layer] = []
    errors: list[FieldError] = []
    for number, values in enumerate(given):
        reader = _Reader(values, f"layers[{number}]")
        layers.append(reader.layer(width, height))
        errors += reader.errors
    return Invalid(tuple(errors)) if errors else layers


@attrs.define(eq=False)
class _Reader:
    given: Mapping[str, Any]
    name: str
    errors: list[FieldError] = attrs.field(factory=list)

    def layer(self, width: int, height: int) -> Layer:
        x, y = float(self.given.get("x", 0)), float(self.given.get("y", 0))
        match self.given["kind"]:
            case "box":
                return Box(
                    x=x,
                    y=y,
                    width=self._length("width", max(width - x, 1)),
                    height=self._length("height", max(height - y, 1)),
                    color=self._color(WHITE),
                )
            case "text":
                return Text(
                    x=x,
                    y=y,
                    width=self._length("width", min(max(width - x, 1), MAX_LINE), most=MAX_LINE),
                    height=self._length("height") if "height" in self.given else None,
                    text=str(self.given.get("text", "")),
                    size=self._length("size", SIZE, least=MIN_SIZE, most=MAX_SIZE),
                    color=self._color(BLACK),
                    align=cast(Align, self.given.get("align", "left")),
                )
            case _:
                return Picture(
                    x=x,
                    y=y,
                    width=self._length("width") if "width" in self.given else None,
                    height=self._length("height") if "height" in self.given else None,
                    image=self._image(),
                    fit=cast(Fit, self.given.get("fit", "contain")),
                )

    def _length(self, field: str, default: float = 1, *, least: float = 0, most: float = MAX_NUMBER) -> float:
        length = float(self.given.get(field, default))
        if length <= 0 or not least <= length <= most:
            self._wrong(
                field, f"must be {f'at least {least:g}' if least else 'above 0'} and at most {most:g}"
            )
        return length

    def _color(self, default: Color) -> Color:
        given = self.given.get("color")
        if given is None:
            return default
        try:
            return color(given)
        except ValueError as error:
            self._wrong("color", str(error))
            return default

    def _image(self) -> str:
        given = self.given.get("image")
        if given is None:
            self._wrong("image", "is required in a layer of the kind image: a path below the folder images")
            return ""
        try:
            return relative_path(given)
        except ValueError:
            wrong = "must be the path of a file below the data directory's folder images, such as poster.png"
            self._wrong("image", wrong)
            return ""

    def _wrong(self, field: str, message: str) -> None:
        self.errors.append(FieldError(f"{self.name}.{field}", message))


def color(text: str) -> Color:
    """
    A colour as red, green, blue and opacity of 0 to 255. Raises ValueError with what would be right.

    `rgba` is CSS's, with an opacity of 0 to 1.
    """
    match = _RGBA.fullmatch(text.strip().lower())
    if match is not None:
        red, green, blue = (int(match[place]) for place in (1, 2, 3))
        opacity = float(match[4])
        if max(red, green, blue) > 255 or opacity > 1:
            raise ValueError("must have parts of 0 to 255 and an opacity of 0 to 1 in rgba(…)")
        return red, green, blue, round(opacity * 255)
    if text.strip().lower().startswith("rgba"):
        raise ValueError(COLOR_RULE)
    try:
        return cast(Color, ImageColor.getcolor(text.strip(), "RGBA"))
    except ValueError:
        raise ValueError(COLOR_RULE) from None
