"""Layers and image files before they are drawn: what is wrong is told by its place, and bounds hold."""

import contextlib
import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.domain.composition import parse_new
from engine.domain.fields import FieldError, Invalid
from plugins.drawing import images
from plugins.drawing.images import ImageRefusedError, Images
from plugins.drawing.layers import BLACK, WHITE, color, read_layers
from plugins.drawing.lettering import missing

COLOUR = "must be a colour: #RGB, #RRGGBB, #RRGGBBAA, rgb(…), rgba(…), hsl(…) or a name of CSS"


def test_every_wrong_layer_is_told_by_its_number_and_field():
    """
    All at once. What is told would otherwise be seen as a picture that is wrong.
    """
    layers = [
        {"kind": "box", "width": 0, "color": "blurple"},
        {"kind": "text", "text": "x"},
        {"kind": "text", "size": 0.5, "width": 20_000},
        {"kind": "image"},
        {"kind": "image", "image": "../secret", "height": -1},
        {"kind": "image", "image": "https://example.com/poster.png"},
    ]
    assert isinstance(parse_new({"name": "x", "layers": layers}), dict), "they may be stored"
    found = read_layers(layers, 100, 100)
    assert isinstance(found, Invalid)
    path = "must be the path of a file below the data directory's folder images, such as poster.png"
    assert found.errors == (
        FieldError("layers[0].width", "must be above 0 and at most 100000"),
        FieldError("layers[0].color", COLOUR),
        FieldError("layers[2].width", "must be above 0 and at most 16384"),
        FieldError("layers[2].size", "must be at least 1 and at most 1000"),
        FieldError(
            "layers[3].image", "is required in a layer of the kind image: a path below the folder images"
        ),
        FieldError("layers[4].height", "must be above 0 and at most 100000"),
        FieldError("layers[4].image", path),
        FieldError("layers[5].image", path),
    )


def test_only_the_known_ways_of_aligning_and_fitting_are_stored():
    """
    A word that nobody draws is refused when it is written.
    """
    found = parse_new(
        {"name": "x", "layers": [{"kind": "text", "align": "middle"}, {"kind": "image", "fit": "zoom"}]}
    )
    assert isinstance(found, Invalid)
    assert found.errors[0].message == "item 0 align must be one of left, center, right"
    found = parse_new({"name": "x", "layers": [{"kind": "image", "fit": "zoom"}]})
    assert isinstance(found, Invalid)
    assert found.errors[0].message == "item 0 fit must be one of contain, cover, fill"


@pytest.mark.parametrize(
    "text, parts",
    [
        ("#f80", (255, 136, 0, 255)),
        ("#ff8000", (255, 128, 0, 255)),
        ("#FF800080", (255, 128, 0, 128)),
        ("rgb(1, 2, 3)", (1, 2, 3, 255)),
        ("rgba(1, 2, 3, 0.5)", (1, 2, 3, 128)),
        ("rgba(1,2,3,1)", (1, 2, 3, 255)),
        ("hsl(120, 100%, 50%)", (0, 255, 0, 255)),
        (" RebeccaPurple ", (102, 51, 153, 255)),
    ],
)
def test_colours_are_those_of_css(text, parts):
    """
    An opacity in `rgba` goes from 0 to 1.
    """
    assert color(text) == parts


@pytest.mark.parametrize("text", ["", "#12345", "rgba(1,2,3)", "rgba(1,2,3,50%)", "rgb(1,2)", "url(x)"])
def test_what_is_no_colour_is_refused_with_what_would_be(text):
    """
    Rather than drawn in some other one.
    """
    with pytest.raises(ValueError) as refused:
        color(text)
    assert str(refused.value) == COLOUR
    with pytest.raises(ValueError, match="0 to 1"):
        color("rgba(1,2,3,128)")


def test_a_layer_without_a_colour_can_be_seen():
    """
    Text is black, boxes are white.
    """
    box, text = read_layers([{"kind": "box"}, {"kind": "text"}], 10, 10)
    assert (box.color, text.color) == (WHITE, BLACK)


def test_characters_that_the_font_lacks_are_named():
    """
    They are drawn as empty boxes, and whoever asked for the picture should know.
    """
    assert missing("Épisode Ω: «Жизнь» – “Pilot” €") == []
    assert missing("Pilot 第一集\n☃") == ["☃", "一", "第", "集"]


def file_of(image, kind, **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def decoded(data):
    return Images(lambda path: data).get("a")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_images_of_the_known_kinds_are_decoded(kind):
    """
    To four channels each, whatever they have.
    """
    image = decoded(file_of(Image.new("RGB", (20, 10), (255, 0, 0)), kind))
    assert (image.mode, image.size) == ("RGBA", (20, 10))
    assert image.getpixel((5, 5))[0] > 250 and image.getpixel((5, 5))[3] == 255


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16"])
def test_images_of_other_colour_spaces_are_decoded(mode):
    """
    As printers, scanners and old tools write them.
    """
    image = decoded(file_of(Image.new(mode, (20, 10)), "JPEG" if mode == "CMYK" else "PNG"))
    assert (image.mode, image.size) == ("RGBA", (20, 10))


def test_a_photograph_is_turned_as_the_camera_says():
    """
    Orientation 6: the camera was held upright.
    """
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decoded(file_of(Image.new("RGB", (20, 10)), "JPEG", exif=exif)).size == (10, 20)


def bomb(width, height):
    """
    A PNG of some hundred bytes that says it is this large.
    """

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [7_000, 11_000, 60_000])
def test_an_image_that_is_too_large_is_refused_before_it_is_decoded(side):
    """
    Its header says so.
    """
    with pytest.raises(ImageRefusedError, match="pixels"):
        decoded(bomb(side, side))


def test_all_images_together_have_a_bound_and_one_used_often_counts_once(monkeypatch):
    """
    A hundred layers may each name another file.
    """
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    read = []

    def file(path):
        read.append(path)
        return file_of(Image.new("RGB", (20, 10)), "PNG")

    of = Images(file)
    for path in ("a", "b", "a", "b", "a"):
        of.get(path)
    assert read == ["a", "b"]
    with pytest.raises(ImageRefusedError, match="image c has 20×10 pixels; all images"):
        of.get("c")


def test_what_is_no_image_is_refused_by_its_name():
    """
    Formats that are not wanted, torn files, other things.
    """
    whole = file_of(Image.new("RGB", (200, 100), (9, 9, 9)), "PNG")
    for data in (b"", b"<svg/>", whole[:60], file_of(Image.new("RGB", (9, 9)), "TIFF")):
        with pytest.raises(
            ImageRefusedError, match="image a cannot be read as one of PNG, JPEG, WEBP, GIF: "
        ) as raised:
            decoded(data)
        assert " object at 0x" not in str(raised.value)


SAMPLES = [file_of(Image.radial_gradient("L").resize((40, 30)), kind) for kind in images.FORMATS]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=20))
def test_damaged_images_are_decoded_or_refused(sample, damage):
    """
    Never a crash.
    """
    data = bytearray(sample)
    for place, byte in damage:
        data[place % len(data)] = byte
    with contextlib.suppress(ImageRefusedError):
        assert decoded(bytes(data)).mode == "RGBA"
