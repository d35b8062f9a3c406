"""Pictures of compositions over REST: what was drawn last, which version that was, and whether it is old."""

import psycopg
import pytest

from tests.gateway.node_fixture import NOBODYS

PICTURE = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
async def poster(greenroom):
    """
    The path of a composition.
    """
    episode = await greenroom.create()
    created = await greenroom.request("POST", f"episodes/{episode['id']}/compositions", {"name": "Poster"})
    return created.headers["location"]


def keep(greenroom, poster, version, digest, png=PICTURE):
    """
    What a drawing leaves behind.
    """
    with psycopg.connect(greenroom.conninfo) as connection:
        connection.execute(
            "insert into composition_images values (%s, %s, %s, %s, now()) on conflict (composition_id) "
            "do update set version = excluded.version, png = excluded.png, digest = excluded.digest",
            [poster.rpartition("/")[2], version, png, digest],
        )


async def test_a_composition_that_was_not_drawn_has_no_picture_and_says_how_to_get_one(greenroom, poster):
    """
    404, as for a composition that does not exist, but the text is another one.
    """
    problem = (await greenroom.request("GET", f"{poster}/image")).problem(404)
    assert "has not been drawn" in problem["detail"] and "composition.render" in problem["detail"]
    unknown = poster.rpartition("/")[0] + f"/{NOBODYS}/image"
    assert "has no composition" in (await greenroom.request("GET", unknown)).problem(404)["detail"]


async def test_the_picture_is_served_with_the_version_that_was_drawn(greenroom, poster):
    """
    As an image and as nothing else; to viewers, but not to strangers.
    """
    keep(greenroom, poster, 1, "abc123")
    answer = await greenroom.request("GET", f"{poster}/image", role="viewer")
    assert (answer.status, answer.body) == (200, PICTURE)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == '"1-abc123"'
    (await greenroom.request("GET", f"{poster}/image", token="")).problem(401)


async def test_a_picture_of_an_older_version_says_so(greenroom, poster):
    """
    Both versions are told; the picture is served until there is a newer one.
    """
    keep(greenroom, poster, 1, "abc123")
    await greenroom.request("PATCH", poster, {"name": "Banner"})
    answer = await greenroom.request("GET", f"{poster}/image")
    assert (answer.headers["x-rendered-version"], answer.headers["x-composition-version"]) == ("1", "2")
    keep(greenroom, poster, 2, "abd", b"new")
    answer = await greenroom.request("GET", f"{poster}/image")
    assert (answer.headers["x-rendered-version"], answer.headers["x-composition-version"]) == ("2", "2")
    assert (answer.headers["etag"], answer.body) == ('"2-abd"', b"new")


async def test_who_has_the_picture_is_not_sent_it_again(greenroom, poster):
    """
    304 with its tag, however many tags are sent; the same version drawn anew is another picture.
    """
    keep(greenroom, poster, 1, "abc123")
    for known in ('"1-abc123"', '"1-ffff", W/"1-abc123"', '"0-1","1-abc123"'):
        answer = await greenroom.request("GET", f"{poster}/image", headers={"If-None-Match": known})
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", '"1-abc123"')
        assert answer.headers["x-rendered-version"] == "1"
    keep(greenroom, poster, 1, "dddd", b"new")
    answer = await greenroom.request("GET", f"{poster}/image", headers={"If-None-Match": '"1-abc123"'})
    assert (answer.status, answer.body) == (200, b"new")


async def test_a_large_picture_is_served_whole(greenroom, poster):
    """
    As large as one may be.
    """
    png = bytes(range(256)) * 65_536
    keep(greenroom, poster, 1, "abc123", png)
    assert (await greenroom.request("GET", f"{poster}/image")).body == png


async def test_the_picture_goes_with_its_composition(greenroom, poster):
    """
    Nothing is left of it.
    """
    keep(greenroom, poster, 1, "abc123")
    assert (await greenroom.request("DELETE", poster)).status == 204
    assert greenroom.rows("select count(*) from composition_images") == [(0,)]
    (await greenroom.request("GET", f"{poster}/image")).problem(404)
