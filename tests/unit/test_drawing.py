"""Drawing compositions: what lies where, over what, and that nothing asked for is too large."""

import io
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.domain.composition import ALIGNS, FITS, parse_new
from plugins.drawing.canvas import draw, png
from plugins.drawing.layers import read_layers

RED, GREEN, BLUE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)
NOTHING = (0, 0, 0, 0)
LONG = "The episode in which everybody meets, and nobody is who they were"


def drawn(*layers, width=200, height=100, **images):
    ready = read_layers(layers, width, height)
    assert isinstance(ready, list), ready
    return draw(ready, width, height, lambda name: images[name.removesuffix(".png")], lambda fraction: None)


def halves(width, height):
    """
    An image with a red left and a blue right half.
    """
    image = Image.new("RGBA", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def inked(picture, area=None):
    """
    Where something was drawn: left, top, right, bottom.
    """
    box = picture.crop(area).getchannel("A").getbbox() if area else picture.getchannel("A").getbbox()
    assert box is not None, "nothing was drawn"
    return box


def test_a_box_covers_exactly_its_pixels():
    """
    From its upper left corner; what nothing covers is transparent.
    """
    picture = drawn({"kind": "box", "x": 10, "y": 20, "width": 30, "height": 40, "color": "#f00"})
    assert (picture.size, inked(picture)) == ((200, 100), (10, 20, 40, 60))
    assert picture.getpixel((10, 20)) == picture.getpixel((39, 59)) == RED
    assert picture.getpixel((9, 20)) == picture.getpixel((40, 59)) == NOTHING


def test_a_box_without_measures_fills_the_canvas_from_its_corner():
    """
    White, if no colour is given.
    """
    picture = drawn({"kind": "box", "x": 150})
    assert (inked(picture), picture.getpixel((150, 0))) == ((150, 0, 200, 100), (255, 255, 255, 255))


def test_boxes_side_by_side_have_no_gap_and_no_overlap():
    """
    Edges are rounded, not sizes.
    """
    third = 200 / 3
    columns = [{"kind": "box", "x": n * third, "width": third, "color": "#ffffff80"} for n in range(3)]
    assert set(drawn(*columns).get_flattened_data()) == {(255, 255, 255, 128)}


def test_later_layers_lie_over_earlier_ones():
    """
    In their order; with opacity, what is below shines through.
    """
    below = {"kind": "box", "color": "#ff0000"}
    over = {"kind": "box", "width": 100, "color": "#0000ff"}
    assert drawn(below, over).getpixel((50, 50)) == BLUE
    assert drawn(over, below).getpixel((50, 50)) == RED
    assert drawn(below, {**over, "color": "rgba(0, 0, 255, 0.5)"}).getpixel((50, 50)) == (127, 0, 128, 255)


def test_text_lies_where_its_alignment_says():
    """
    At the left, in the middle or at the right of its width; below its upper edge.
    """
    box = {"kind": "text", "x": 20, "y": 10, "width": 160, "text": "Pilot", "size": 30}
    left, middle, right = (inked(drawn({**box, "align": align})) for align in ALIGNS)
    assert 20 <= left[0] <= 23 and 177 <= right[2] <= 180
    assert abs((middle[0] - 20) - (180 - middle[2])) <= 3
    assert left[1] >= 10 and left[3] <= 50


def test_text_is_wrapped_within_its_width():
    """
    At blanks, in as many lines as it needs, and a line break of its own stays one.
    """
    text = {"kind": "text", "x": 20, "y": 0, "width": 150, "text": LONG, "size": 12}
    left, _, right, bottom = inked(drawn(text))
    assert left >= 20 and right <= 171 and bottom > 30
    once, twice = (inked(drawn({**text, "text": words}))[3] for words in ("A", "A\n\nA"))
    assert 26 <= twice - once <= 30, "two lines of 14 pixels"


def test_a_word_wider_than_its_width_is_broken():
    """
    Nothing runs beyond the width.
    """
    picture = drawn({"kind": "text", "x": 20, "width": 60, "text": "Donaudampfschiff", "size": 20})
    left, _, right, bottom = inked(picture)
    assert left >= 20 and right <= 81 and bottom > 40


def test_lines_that_find_no_room_are_left_out_and_the_last_one_says_so():
    """
    With an ellipsis.
    """
    text = {"kind": "text", "x": 0, "y": 0, "width": 100, "text": LONG, "size": 12}
    short = drawn({**text, "height": 30})
    assert inked(short)[3] <= 30
    assert inked(short)[2] <= 101
    whole = drawn(text)
    assert short.crop((0, 0, 200, 14)).tobytes() == whole.crop((0, 0, 200, 14)).tobytes()
    assert short.crop((0, 14, 200, 28)).tobytes() != whole.crop((0, 14, 200, 28)).tobytes()


def test_text_with_opacity_shines_through_and_leaves_the_ground_opaque():
    """
    Half of white over red is pink, everywhere opaque.
    """
    ground = {"kind": "box", "color": "red"}
    picture = drawn(ground, {"kind": "text", "text": "I", "size": 100, "color": "#ffffff80"})
    assert picture.getchannel("A").getextrema() == (255, 255)
    assert max(picture.getchannel("G").get_flattened_data()) == 128


@pytest.mark.parametrize(
    "layer, area",
    [
        ({}, (0, 0, 80, 40)),
        ({"x": 10, "y": 5, "width": 40}, (10, 5, 50, 25)),
        ({"height": 80}, (0, 0, 160, 80)),
        ({"width": 100, "height": 100}, (0, 25, 100, 75)),
        ({"width": 100, "height": 100, "fit": "fill"}, (0, 0, 100, 100)),
        ({"width": 100, "height": 100, "fit": "cover"}, (0, 0, 100, 100)),
        ({"x": -40}, (0, 0, 40, 40)),
    ],
)
def test_an_image_keeps_its_proportions_unless_it_is_to_fill(layer, area):
    """
    Contained in the middle of its place; covering, it is cut evenly on both sides.
    """
    picture = drawn({"kind": "image", "image": "a.png", **layer}, a=halves(80, 40))
    assert inked(picture) == area
    if layer.get("x") != -40:
        assert picture.getpixel((area[0] + 2, area[3] - 2)) == RED
    assert picture.getpixel((area[2] - 2, area[1] + 2)) == BLUE


def test_a_transparent_image_is_blended():
    """
    With what is below it.
    """
    glass = Image.new("RGBA", (50, 50), (0, 255, 0, 128))
    picture = drawn({"kind": "box", "color": "#f00"}, {"kind": "image", "image": "a.png"}, a=glass)
    assert picture.getpixel((25, 25)) == (127, 128, 0, 255)
    assert picture.getpixel((60, 25)) == RED


def test_an_enormous_layer_costs_no_more_than_the_canvas():
    """
    Of what is asked for, only what is to be seen is made.
    """
    huge = {"x": -99_950, "y": -99_950, "width": 100_000, "height": 100_000}
    layers = (
        {"kind": "image", "image": "a.png", "fit": "fill", **huge},
        {"kind": "box", "color": "#0f0", "x": 100, "width": 100_000, "height": 100_000},
        {"kind": "text", "text": "M" * 1000, "size": 1000, "x": -100_000, "y": -100_000},
    )
    picture = drawn(*layers, a=halves(80, 40))
    assert picture.getpixel((49, 49)) == BLUE
    assert picture.getpixel((50, 50)) == NOTHING
    assert picture.getpixel((100, 99)) == GREEN


def test_the_file_is_the_picture():
    """
    PNG, with its transparency; the same each time.
    """
    picture = drawn({"kind": "box", "width": 20, "color": "#f008"})
    file = png(picture)
    assert file == png(picture)
    read = Image.open(io.BytesIO(file))
    assert (read.format, read.mode, read.size) == ("PNG", "RGBA", (200, 100))
    assert read.tobytes() == picture.tobytes()


def test_it_is_told_how_far_it_has_got_and_may_be_ended_there():
    """
    Before each layer, and within a long text.
    """
    seen = []
    layers = read_layers([{"kind": "box"}, {"kind": "text", "text": "a\nb", "size": 12}], 200, 100)
    draw(layers, 200, 100, lambda name: None, seen.append)
    assert seen == [0, 0.5, 0.5, 0.5]
    assert all(before <= after for before, after in pairwise(seen))

    def enough(fraction):
        raise TimeoutError(str(fraction))

    with pytest.raises(TimeoutError):
        draw(layers, 200, 100, lambda name: None, enough)


NUMBER = st.floats(-100_000, 100_000) | st.floats(-300, 300) | st.integers(-300, 300)
LENGTH = st.floats(0.001, 10_000) | st.integers(1, 300)
PLACE = {"x": NUMBER, "y": NUMBER, "width": LENGTH, "height": LENGTH}
LAYERS = st.one_of(
    st.fixed_dictionaries({"kind": st.just("box")}, optional=PLACE),
    st.fixed_dictionaries(
        {"kind": st.just("image"), "image": st.just("a.png")},
        optional={**PLACE, "fit": st.sampled_from(FITS)},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("text")},
        optional={
            **PLACE,
            "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=99),
            "size": st.floats(1, 1000),
            "align": st.sampled_from(ALIGNS),
        },
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LAYERS, max_size=4), st.integers(1, 70), st.integers(1, 70))
def test_whatever_layers_pass_their_checks_can_be_drawn(layers, width, height):
    """
    However far beyond the canvas, however thin.
    """
    checked = parse_new({"name": "x", "layers": layers})
    assert isinstance(checked, dict)
    picture = drawn(*checked["layers"], width=width, height=height, a=halves(8, 4))
    assert picture.size == (width, height)
