"""Draws layers to a picture. Pure: the same layers and images make the same pixels."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, floor
from typing import assert_never

from PIL import Image

from plugins.drawing.layers import Box, Color, Layer, Picture, Text
from plugins.drawing.lettering import font_of, line_height, shorten, stencil, wrap

Area = tuple[int, int, int, int]

MAX_SIDE = 8192
MAX_PIXELS = 16_777_216


def draw(
    layers: Sequence[Layer],
    width: int,
    height: int,
    image: Callable[[str], Image.Image],
    progressed: Callable[[float], None],
) -> Image.Image:
    """
    The picture: each layer over those before it, on a transparent canvas of `width` × `height` pixels.

    Whatever a layer asks for, nothing larger than the canvas is made. `image` answers a decoded image
    by its name. `progressed` is told which part of the layers is done; it may raise to end this.
    """
    canvas = Image.new("RGBA", (width, height))
    for done, layer in enumerate(layers):
        progressed(done / len(layers))
        match layer:
            case Box():
                _draw_box(canvas, layer)
            case Text():
                _draw_text(canvas, layer, partial(progressed, done / len(layers)))
            case Picture():
                _draw_picture(canvas, layer, image(layer.image))
            case _:
                assert_never(layer)
    return canvas


def png(canvas: Image.Image) -> bytes:
    """
    The picture as a PNG file.
    """
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def _draw_box(canvas: Image.Image, box: Box) -> None:
    area = _visible(canvas, box.x, box.y, box.width, box.height)
    if area is not None:
        _lay(canvas, Image.new("RGBA", _size(area), box.color), area)


def _draw_text(canvas: Image.Image, text: Text, progressed: Callable[[], None]) -> None:
    font = font_of(text.size)
    step = line_height(font)
    lines = wrap(text.text, font, text.width)
    if text.height is not None and len(lines) > (room := max(1, int(text.height // step))):
        lines = [*lines[: room - 1], shorten(lines[room - 1], font, text.width)]
    for number, line in enumerate(lines):
        top = text.y + number * step
        if not line or top + step < 0:
            continue
        if top > canvas.height:
            break
        progressed()
        spare = text.width - font.getlength(line)
        begin = text.x + {"left": 0.0, "center": spare / 2, "right": spare}[text.align]
        _draw_line(canvas, line, round(begin), round(top), text)


def _draw_line(canvas: Image.Image, line: str, left: int, top: int, text: Text) -> None:
    mask, more_left, more_top = stencil(line, font_of(text.size))
    left, top = left + more_left, top + more_top
    area = _visible(canvas, left, top, mask.width, mask.height)
    if area is None:
        return
    shown = mask.crop((area[0] - left, area[1] - top, area[2] - left, area[3] - top))
    _lay(canvas, _tinted(shown, text.color), area)


def _draw_picture(canvas: Image.Image, layer: Picture, image: Image.Image) -> None:
    width, height = _picture_size(layer, image)
    area = _visible(canvas, layer.x, layer.y, width, height)
    if area is None:
        return
    across, down = width / image.width, height / image.height
    if layer.fit != "fill":
        across = down = min(across, down) if layer.fit == "contain" else max(across, down)
    # Where the whole image would lie, in the middle of its place; of that, what is to be seen.
    left = layer.x + (width - image.width * across) / 2
    top = layer.y + (height - image.height * down) / 2
    seen = _meeting(area, _edges(left, top, image.width * across, image.height * down))
    if seen is None:
        return
    source = (
        max((seen[0] - left) / across, 0.0),
        max((seen[1] - top) / down, 0.0),
        min((seen[2] - left) / across, float(image.width)),
        min((seen[3] - top) / down, float(image.height)),
    )
    if source[0] < source[2] and source[1] < source[3]:
        _lay(canvas, _part(image, source, _size(seen)), seen)


def _part(image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> Image.Image:
    """
    A part of the image at another size.

    Cut out first: `resize` copies all that it is given, to treat transparent pixels right.
    """
    left, top = floor(box[0]), floor(box[1])
    cut = image.crop((left, top, min(ceil(box[2]), image.width), min(ceil(box[3]), image.height)))
    inside = (
        box[0] - left,
        box[1] - top,
        min(box[2] - left, float(cut.width)),
        min(box[3] - top, float(cut.height)),
    )
    return cut.resize(size, Image.Resampling.LANCZOS, box=inside)


def _picture_size(layer: Picture, image: Image.Image) -> tuple[float, float]:
    if layer.width is not None:
        return layer.width, layer.height or layer.width * image.height / image.width
    if layer.height is not None:
        return layer.height * image.width / image.height, layer.height
    return image.width, image.height


def _tinted(mask: Image.Image, color: Color) -> Image.Image:
    layer = Image.new("RGBA", mask.size, (*color[:3], 0))
    layer.putalpha(mask if color[3] == 255 else mask.point(lambda opacity: opacity * color[3] / 255))
    return layer


def _lay(canvas: Image.Image, layer: Image.Image, area: Area) -> None:
    canvas.alpha_composite(layer, (area[0], area[1]))


def _visible(canvas: Image.Image, x: float, y: float, width: float, height: float) -> Area | None:
    """
    The part of a rectangle that lies on the canvas; None when nothing of it does.
    """
    return _meeting(_edges(x, y, width, height), (0, 0, canvas.width, canvas.height))


def _edges(x: float, y: float, width: float, height: float) -> Area:
    # Edges are rounded, not sizes: what lies side by side in the layers has no gap between.
    left, top = round(x), round(y)
    return left, top, max(round(x + width), left + 1), max(round(y + height), top + 1)


def _meeting(one: Area, other: Area) -> Area | None:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _size(area: Area) -> tuple[int, int]:
    return area[2] - area[0], area[3] - area[1]
