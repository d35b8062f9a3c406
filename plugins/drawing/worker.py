"""The process that draws: it decodes files that nobody vouches for, within bounds on its memory and time."""

import json
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from engine.domain.fields import FieldError, Invalid
from plugins.beneath import FileRefusedError, read_beneath
from plugins.drawing.canvas import draw, png
from plugins.drawing.images import MAX_BYTES, ImageRefusedError, Images
from plugins.drawing.layers import Text, read_layers
from plugins.drawing.lettering import missing
from plugins.drawing.order import CRASHED, DRAWN, PROGRESS, REFUSED, Drawn, Order, UndrawableError

FOLDER = "images"
MAX_PNG = 16 * 1024 * 1024
# Of address space, of which the canvas and the images take less than half at their largest.
MAX_MEMORY = 2 * 1024 * 1024 * 1024
# Seconds of computing; the job's timeout comes first, unless the node is gone.
MAX_CPU = 300
# How much of the work is done before the picture is encoded.
BEFORE_ENCODING = 0.8
# Wrong fields, and characters that the font lacks, as many as are told.
MAX_TOLD = 20


def drawn(order: Order, progressed: Callable[[float], None]) -> Drawn:
    """
    Draw and encode. Raises UndrawableError.
    """
    layers = read_layers(order.layers, order.width, order.height)
    if isinstance(layers, Invalid):
        raise UndrawableError(_list(layers.errors))
    images = Images(lambda path: read_beneath(order.data_dir, FOLDER, path, MAX_BYTES))
    try:
        canvas = draw(
            layers, order.width, order.height, images.get, lambda done: progressed(done * BEFORE_ENCODING)
        )
        progressed(BEFORE_ENCODING)
        picture = png(canvas)
    except (FileRefusedError, ImageRefusedError) as error:
        raise UndrawableError(str(error)) from None
    except MemoryError:
        raise UndrawableError("it takes too much memory; use smaller images, or fewer") from None
    if len(picture) > MAX_PNG:
        wrong = f"the picture has {len(picture):,} bytes of at most {MAX_PNG:,}; draw it smaller"
        raise UndrawableError(wrong)
    lacking = missing("".join(layer.text for layer in layers if isinstance(layer, Text)))
    warnings = [f"the font has no {' '.join(lacking[:MAX_TOLD])}"] if lacking else []
    return Drawn(png=picture, warnings=warnings)


def _list(errors: Sequence[FieldError]) -> str:
    lines = [f"{error.field} {error.message}" for error in errors[:MAX_TOLD]]
    more = [f"and {len(errors) - MAX_TOLD} more"] if len(errors) > MAX_TOLD else []
    return "\n".join((*lines, *more))


def main(source: BinaryIO, target: BinaryIO) -> None:
    """
    Serve one order.
    """

    def tell(word: bytes, value: Any) -> None:
        target.write(word + b" " + json.dumps(value).encode() + b"\n")
        target.flush()

    given = json.load(source)
    order = Order(**{**given, "data_dir": Path(given["data_dir"])})
    try:
        done = drawn(order, lambda fraction: tell(PROGRESS, fraction))
    except UndrawableError as error:
        tell(REFUSED, str(error))
    except BrokenPipeError:
        raise
    except Exception:
        tell(CRASHED, traceback.format_exc())
    else:
        tell(DRAWN, done.warnings)
        target.write(done.png)
        target.flush()


def limit() -> None:
    """
    Bound what this process may take, where the system can.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU, MAX_CPU))


if __name__ == "__main__":
    limit()
    # Whoever ordered it is gone: then nobody needs it, and there is nobody to tell.
    with suppress(BrokenPipeError):
        main(sys.stdin.buffer, sys.stdout.buffer)
