"""Files that jobs name: only those below their folder are read, however the name tries to leave it."""

import os
from pathlib import Path

import pytest

from plugins import beneath
from plugins.beneath import FileRefusedError, read_beneath, relative_path


@pytest.fixture
def data_dir(tmp_path):
    data_dir = tmp_path / "data"
    (data_dir / "imports" / "spring").mkdir(parents=True)
    (data_dir / "imports" / "spring" / "a.csv").write_bytes(b"title\n")
    (data_dir / "secret").write_bytes(b"key")
    return data_dir


@pytest.fixture
def read(data_dir):
    return lambda path, most=100: read_beneath(data_dir, "imports", path, most)


def test_a_file_below_the_folder_is_read(read):
    """
    In folders of its own, too; exactly as many bytes as are allowed are not too many.
    """
    assert read("spring/a.csv") == b"title\n"
    assert read("spring/a.csv", 6) == b"title\n"
    with pytest.raises(FileRefusedError, match="has more than 5 bytes"):
        read("spring/a.csv", 5)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../secret",
        "spring/../../secret",
        "./a.csv",
        "spring//a.csv",
        "spring/",
        "..",
        "a\\..\\b",
        "a\x00b",
        "a\nb",
        "x" * 501,
        7,
        None,
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused_before_anything_is_opened(read, path):
    """
    At the submission and at the reading alike.
    """
    with pytest.raises(ValueError, match="must"):
        relative_path(path)
    with pytest.raises(FileRefusedError, match="must"):
        read(path)


def test_no_symbolic_link_is_followed(read, data_dir):
    """
    Neither a file's nor a folder's, nor the whole folder of imports; the message names the link.
    """
    imports = data_dir / "imports"
    (imports / "link.csv").symlink_to(data_dir / "secret")
    (imports / "out").symlink_to(data_dir)
    (imports / "near.csv").symlink_to("spring/a.csv")
    for path, name in (("link.csv", "link.csv"), ("out/secret", "out"), ("near.csv", "near.csv")):
        with pytest.raises(FileRefusedError, match=f"'{name}' is a symbolic link"):
            read(path)
    imports.rename(data_dir / "elsewhere")
    imports.symlink_to(data_dir / "elsewhere")
    with pytest.raises(FileRefusedError, match="'imports' is a symbolic link"):
        read("spring/a.csv")


def test_a_folder_exchanged_for_a_link_meanwhile_does_not_lead_out(read, data_dir, monkeypatch):
    """
    Between looking at a folder and opening what is in it, somebody may put a link there.
    """
    spring = data_dir / "imports" / "spring"
    opened = os.open

    def exchanging(path, *given, **more):
        if path == "a.csv":
            spring.rename(data_dir / "gone")
            (data_dir / "evil").mkdir()
            (data_dir / "evil" / "a.csv").write_bytes(b"stolen")
            spring.symlink_to(data_dir / "evil")
        return opened(path, *given, **more)

    monkeypatch.setattr(beneath.os, "open", exchanging)
    assert read("spring/a.csv") == b"title\n"


def test_what_is_no_regular_file_is_refused_without_waiting(read, data_dir):
    """
    A pipe would be waited at for ever.
    """
    os.mkfifo(data_dir / "imports" / "pipe.csv")
    (data_dir / "imports" / "folder.csv").mkdir()
    for path in ("pipe.csv", "folder.csv"):
        with pytest.raises(FileRefusedError, match="is no regular file"):
            read(path)


@pytest.mark.parametrize(
    "path, says",
    [
        ("b.csv", "imports/b.csv is not there"),
        ("winter/a.csv", "imports/winter/a.csv is not there"),
        ("spring/a.csv/b.csv", "'a.csv' is no folder"),
    ],
)
def test_a_file_that_is_not_there_is_told_by_its_name(read, path, says):
    """
    Without the way to the data directory, which is nobody's business.
    """
    with pytest.raises(FileRefusedError, match=says) as refused:
        read(path)
    assert str(refused.value).count("/") <= path.count("/") + 1


def test_nothing_stays_open(read):
    """
    Whether it was read or refused.
    """
    before = len(list(Path("/proc/self/fd").iterdir()))
    read("spring/a.csv")
    for path in ("b.csv", "winter/a.csv", "spring/a.csv/b", "../x"):
        with pytest.raises(FileRefusedError):
            read(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
