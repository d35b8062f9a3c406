"""The process that draws: what it answers, and that its end, however it comes, is not the node's."""

import io
import json
import os
import signal
from pathlib import Path

import pytest
import trio
from PIL import Image

from plugins.drawing import process, worker
from plugins.drawing.order import Order, UndrawableError
from tests.patience import patience

SOON = 30
RED = {"kind": "box", "color": "#f00"}


def order(tmp_path, *layers, side=100):
    return Order(layers=layers, width=side, height=side, data_dir=tmp_path)


async def ignore(fraction):
    await trio.lowlevel.checkpoint()


def children():
    """
    The processes that draw for this one and are still there.
    """
    # They are the children of whichever thread has started them.
    tasks = Path("/proc/self/task").glob("*/children")
    started = [child for task in tasks for child in task.read_text().split()]
    return [child for child in started if b"plugins.drawing" in told_of(child, "cmdline")]


def told_of(pid, what):
    return Path(f"/proc/{pid}/{what}").read_bytes()


async def test_a_picture_comes_back_and_how_far_it_had_got_before(tmp_path):
    """
    Rising, from nothing to nearly all.
    """
    (tmp_path / "images").mkdir()
    Image.new("RGB", (10, 10), (0, 0, 255)).save(tmp_path / "images" / "blue.png")
    seen = []

    async def told(fraction):
        seen.append(fraction)
        await trio.lowlevel.checkpoint()

    with patience(SOON):
        blue = {"kind": "image", "image": "blue.png", "x": 50}
        done = await process.draw(order(tmp_path, RED, blue, {"kind": "text", "text": "第"}), told)
    picture = Image.open(io.BytesIO(done.png))
    assert (picture.size, picture.getpixel((90, 90))) == ((100, 100), (255, 0, 0, 255))
    assert picture.getpixel((55, 5)) == (0, 0, 255, 255)
    assert seen == sorted(seen) and len(seen) >= 4 and seen[-1] == worker.BEFORE_ENCODING
    assert done.warnings == ["the font has no 第"]
    assert children() == []


@pytest.mark.parametrize(
    "layer, says",
    [
        ({"kind": "box", "color": "blurple", "width": 0}, "layers[0].width must be above 0"),
        ({"kind": "image", "image": "none.png"}, "images/none.png is not there"),
        ({"kind": "image", "image": "no.png"}, "image no.png cannot be read"),
        ({"kind": "image", "image": "link.png"}, "'link.png' is a symbolic link"),
    ],
)
async def test_what_cannot_be_drawn_comes_back_as_a_reason(tmp_path, layer, says):
    """
    Which whoever made the composition can act on.
    """
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "no.png").write_text("no")
    (tmp_path / "images" / "link.png").symlink_to("no.png")
    with patience(SOON), pytest.raises(UndrawableError) as refused:
        await process.draw(order(tmp_path, layer), ignore)
    assert says in str(refused.value)
    assert children() == []


async def test_cancelled_it_is_gone_at_once(tmp_path):
    """
    However much there would be to draw.
    """
    reached = trio.Event()

    async def told(fraction):
        reached.set()
        await trio.sleep_forever()

    with patience(SOON):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.draw, order(tmp_path, *[RED] * 100, side=4000), told)
            await reached.wait()
            assert len(children()) == 1
            nursery.cancel_scope.cancel()
    assert children() == []


async def test_a_process_that_is_killed_is_an_error_and_no_picture(tmp_path):
    """
    As a decoder that crashes would end it; another attempt may succeed.
    """

    async def told(fraction):
        (pid,) = children()
        os.kill(int(pid), signal.SIGKILL)
        await trio.lowlevel.checkpoint()

    with patience(SOON), pytest.raises(RuntimeError, match="ended without a picture, with code -9"):
        await process.draw(order(tmp_path, *[RED] * 100, side=4000), told)


async def test_a_bug_in_it_is_told_with_its_traceback(tmp_path):
    """
    In the job's error, which is where somebody looks.
    """
    broken = Order(layers=[{"kind": "box", "x": "left"}], width=10, height=10, data_dir=tmp_path)
    with patience(SOON), pytest.raises(RuntimeError, match=r"drawing crashed: Traceback[^$]*'left'"):
        await process.draw(broken, ignore)


async def test_the_node_s_secrets_are_not_given_to_it(tmp_path, monkeypatch):
    """
    It decodes files that nobody vouches for.
    """
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@host/db")
    monkeypatch.setenv("GREENROOM_AUTH_SECRET", "secret")
    seen = []

    async def told(fraction):
        (pid,) = children()
        seen.append(told_of(pid, "environ"))
        await trio.lowlevel.checkpoint()

    with patience(SOON):
        await process.draw(order(tmp_path, RED), told)
    assert seen and all(b"password" not in one and b"secret" not in one for one in seen)


def test_of_many_wrong_layers_the_first_are_told(tmp_path):
    """
    And how many more there are.
    """
    wrong = [{"kind": "box", "color": "blurple"}] * 100
    with pytest.raises(UndrawableError) as refused:
        worker.drawn(order(tmp_path, *wrong), lambda fraction: None)
    told = str(refused.value).splitlines()
    assert (len(told), told[-1]) == (worker.MAX_TOLD + 1, "and 80 more")


def test_too_much_memory_is_a_reason_and_no_crash(tmp_path, monkeypatch):
    """
    Whoever made the composition can use smaller images.
    """

    def hungry(*given):
        raise MemoryError

    monkeypatch.setattr(worker, "draw", hungry)
    with pytest.raises(UndrawableError, match="too much memory"):
        worker.drawn(order(tmp_path, RED), lambda fraction: None)


def test_a_picture_too_large_to_keep_is_refused(tmp_path, monkeypatch):
    """
    It would be sent whole to everyone who looks.
    """
    monkeypatch.setattr(worker, "MAX_PNG", 100)
    with pytest.raises(UndrawableError, match="of at most 100; draw it smaller"):
        worker.drawn(order(tmp_path, RED), lambda fraction: None)


def test_it_ends_when_nobody_is_there_to_be_told(tmp_path):
    """
    The node was killed: what it had ordered is not drawn to the end.
    """
    read, write = os.pipe()
    os.close(read)
    given = {"layers": [RED] * 100, "width": 10, "height": 10, "data_dir": str(tmp_path)}
    with os.fdopen(write, "wb", buffering=0) as target, pytest.raises(BrokenPipeError):
        worker.main(io.BytesIO(json.dumps(given).encode()), target)
