"""Decodes image files that nobody vouches for, within bounds that are checked before anything is decoded."""

import io
import struct
from collections.abc import Callable

import attrs
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_BYTES = 20 * 1024 * 1024
# All images of one composition together; a pixel takes four bytes while it is drawn.
MAX_PIXELS = 40_000_000

# What Pillow's decoders raise on bytes that are no image, or one made to hurt.
_UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class ImageRefusedError(Exception):
    """
    The file is no image that may be drawn; the text says why. Refuse the composition.
    """


@attrs.define(eq=False)
class Images:
    """
    The images of one composition, each read and decoded once. `read` answers a file's bytes.
    """

    read: Callable[[str], bytes]
    _decoded: dict[str, Image.Image] = attrs.field(factory=dict)
    _pixels: int = 0

    def get(self, path: str) -> Image.Image:
        """
        The image. Raises ImageRefusedError, and what `read` raises.
        """
        image = self._decoded.get(path)
        if image is None:
            image = self._decoded[path] = self._decode(path, self.read(path))
        return image

    def _decode(self, path: str, data: bytes) -> Image.Image:
        try:
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
            self._pixels += opened.width * opened.height
            if self._pixels > MAX_PIXELS:
                raise ImageRefusedError(
                    f"image {path} has {opened.width}×{opened.height} pixels; "
                    f"all images of a composition may have {MAX_PIXELS:,} together"
                )
            # Cameras write how the picture is to be turned; with an opacity, if it has one.
            ImageOps.exif_transpose(opened, in_place=True)
            return opened.convert("RGBA")
        except _UNREADABLE as error:
            # Pillow would name the object that it was given, with its place in memory.
            why = "it is none" if isinstance(error, UnidentifiedImageError) else error
            raise ImageRefusedError(
                f"image {path} cannot be read as one of {', '.join(FORMATS)}: {why}"
            ) from None
