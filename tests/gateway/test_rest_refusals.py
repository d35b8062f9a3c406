"""Everything that REST refuses: the right status, a problem that helps, and no traceback in the log."""

from functools import partial

import pytest

from engine.domain.access import Action
from engine.domain.fields import FieldError
from engine.errors import ActorStoppedError, MailboxFullError, ParkedError, SourceUnavailableError
from engine.hookspecs import hookimpl
from engine.node import Node
from tests.gateway.node_fixture import NOBODYS

MALFORMED = {
    "nothing": b"",
    "no JSON": b"{",
    "two values": b"{} {}",
    "single quotes": b"{'title': 'x'}",
    "a trailing comma": b'{"title": "x",}',
    "no UTF-8": b'{"title": "\xff"}',
    "UTF-16": '{"title": "x"}'.encode("utf-16"),
    "a control character": b'{"title": "\x00"}',
    "a lone surrogate": b'{"title": "\\ud800"}',
    "a lone low surrogate": b'{"title": "\\udc00x"}',
    "not a number": b'{"episode_number": NaN}',
    "an infinite number": b'{"episode_number": 1e999}',
    "an endless number": b'{"episode_number": ' + b"9" * 5000 + b"}",
    "deep nesting": b"[" * 50_000,
    "deep nesting of objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
}
# A field, values that it must not have, and a part of what is said about them.
WRONG = {
    "title": ([None, 1, True, [], {}, "", " \n", "x" * 201, "a\0b"], ("1 to 200 characters", "NUL")),
    "episode_number": ([-1, 1.5, 2.0, "1", True, 2**31, 10**40, [], {}], ("integer from 0 to 2147483647",)),
    "description": ([1, [], "x" * 10_001, "\0"], ("0 to 10000 characters", "NUL")),
    "status": ([None, "done", "Draft", 1, [], {}], ("draft, in_review, approved, published, archived",)),
    "categories": (
        [
            None,
            "Drama",
            {},
            [1],
            [None],
            [""],
            ["x" * 51],
            ["a", "a"],
            ["a", " a"],
            ["a\0"],
            [["a"]],
            ["c"] * 21,
        ],
        ("at most 20 items", "item 0 must", "twice"),
    ),
    "id": ([NOBODYS], ("is not known here",)),
    "version": ([7], ("is not known here",)),
    "": ([1], ("is not known here",)),
    "x" * 1000: ([1], ("is not known here",)),
}


@pytest.fixture
async def post(greenroom):
    return partial(greenroom.request, "POST", "episodes")


async def test_a_body_that_is_no_json_is_malformed(greenroom, post):
    """
    400 for POST, PUT and PATCH, with what is wrong about it; nothing is written.
    """
    episode = await greenroom.create()
    for what, body in MALFORMED.items():
        for ask in (post, partial(greenroom.request, "PATCH", f"episodes/{episode['id']}")):
            assert "no JSON" in (await ask(body=body)).problem(400)["detail"], what
    (await greenroom.request("PUT", f"episodes/{episode['id']}", body=b"{")).problem(400)
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(1,)]


async def test_a_body_that_is_no_object_is_invalid(post):
    """
    422 for JSON of another kind.
    """
    for body in (b"null", b"[]", b'"title"', b"1", b"true"):
        assert (await post(body=body)).fields() == [""]


async def test_each_wrong_field_is_named_with_what_would_be_right(greenroom, post):
    """
    422, in a creation and in a change; nothing is written.
    """
    episode = await greenroom.create()
    change = partial(greenroom.request, "PATCH", f"episodes/{episode['id']}")
    for field, (values, rules) in WRONG.items():
        for value in values:
            for ask in (post, change):
                answer = await ask({"title": "Pilot", field: value})
                [error] = answer.problem(422)["errors"]
                assert error["field"] == field
                assert any(rule in error["message"] for rule in rules), (value, error)
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(1,)]


async def test_all_wrong_fields_are_named_at_once(greenroom, post):
    """
    One entry for each, the missing one included.
    """
    wrong = {"episode_number": -1, "description": 1, "status": "done", "categories": "Drama", "colour": "red"}
    assert (await post(wrong)).fields() == [
        *("categories", "colour", "description", "episode_number", "status", "title"),
    ]
    assert (await post({})).fields() == ["title"]
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    assert (await greenroom.request("PUT", path, {"status": "done"})).fields() == ["status", "title"]
    assert (await greenroom.request("PATCH", path, {"status": 1, "x": 2})).fields() == ["status", "x"]


async def test_the_largest_right_values_are_taken(post):
    """
    The bounds themselves are in; a character is one, however many bytes it takes.
    """
    largest = {
        "title": "\U0001f3ac" * 200,
        "episode_number": 2**31 - 1,
        "description": "d" * 10_000,
        "categories": [f"{number:02}" + "c" * 48 for number in range(20)],
    }
    answer = await post(largest)
    assert answer.status == 201
    assert {name: answer.json[name] for name in largest} == largest
    assert (
        await post({"title": "x", "episode_number": 0, "description": "", "categories": []})
    ).status == 201


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(start_greenroom):
    """
    413, whether its length is announced or not; the next request is served.
    """
    greenroom = await start_greenroom({"server.max_body": "1KiB"})
    post = partial(greenroom.request, "POST", "episodes")
    body = b'{"title": "Pilot", "description": "' + b"d" * 100_000 + b'"}'
    (await post(body=body)).problem(413)
    (await post(body=body, headers={"Content-Length": "999999999999"})).problem(413)
    chunked = {
        "Host": "test",
        "Connection": "close",
        "Authorization": f"Bearer {greenroom.token()}",
        "Transfer-Encoding": "chunked",
        "Content-Type": "application/json",
    }
    (await greenroom.send("POST", "episodes", body, chunked)).problem(413)
    fits = b'{"title": "Pilot"}'
    assert (await greenroom.send("POST", "episodes", fits, chunked)).status == 201
    assert (await post(body=fits)).status == 201


async def test_only_json_is_taken(post):
    """
    415 for any other content type or none; parameters of the right one do not matter.
    """
    body = b'{"title": "Pilot"}'
    for wrong in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "json",
        "",
        "application/jsonp",
    ):
        answer = await post(body=body, headers={"Content-Type": wrong})
        assert "application/json" in answer.problem(415)["detail"]
    for right in ("application/json; charset=utf-8", "Application/JSON"):
        assert (await post(body=body, headers={"Content-Type": right})).status == 201


async def test_roles_bound_what_one_may_do(greenroom):
    """
    403 for a viewer who writes, with the role that may; nothing is written.
    """
    episode = await greenroom.create()
    path = f"episodes/{episode['id']}"
    poster = (await greenroom.request("POST", f"{path}/compositions", {"name": "Poster"})).json
    one = f"{path}/compositions/{poster['id']}"
    for method, where, given in (
        ("POST", "episodes", {"title": "x"}),
        ("PUT", path, {"title": "x"}),
        ("PATCH", path, {"title": "x"}),
        ("DELETE", path, None),
        ("POST", f"{path}/compositions", {"name": "x"}),
        ("PUT", one, {"name": "x"}),
        ("PATCH", one, {"name": "x"}),
        ("DELETE", one, None),
    ):
        answer = await greenroom.request(method, where, given, role="viewer")
        assert "editor" in answer.problem(403)["detail"]
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(2,)]
    for role in ("editor", "operator"):
        assert (await greenroom.request("PATCH", path, {"description": role}, role=role)).status == 200


async def test_an_id_that_is_none_is_malformed(greenroom):
    """
    400 in every place of a path where an id stands, and for every method.
    """
    episode = await greenroom.create()
    good = episode["id"]
    for bad in (
        "1",
        "x" * 36,
        good[:-1],
        f"{good}0",
        "%00",
        "%f0%9f%98%80",
        "%ed%a0%80",
        "x" * 5000,
        "'%20or%201=1",
    ):
        for method, path, given in (
            ("GET", f"episodes/{bad}", None),
            ("PUT", f"episodes/{bad}", {"title": "x"}),
            ("PATCH", f"episodes/{bad}", {}),
            ("DELETE", f"episodes/{bad}", None),
            ("GET", f"episodes/{bad}/events", None),
            ("GET", f"episodes/{bad}/activity", None),
            ("GET", f"episodes/{bad}/presence", None),
            ("GET", f"episodes/{bad}/compositions", None),
            ("GET", f"episodes/{good}/compositions/{bad}", None),
            ("POST", f"notifications/{bad}/read", None),
        ):
            wrong = "NUL" if bad == "%00" else "UUID"
            assert wrong in (await greenroom.request(method, path, given)).problem(400)["detail"], path


async def test_a_route_that_is_none_is_not_found(greenroom):
    """
    404, as a problem too, also outside the API and without a token.
    """
    for path in (
        "episode",
        "episodes/",
        f"episodes/{NOBODYS}/nothing",
        "jobz",
        "",
        "/",
        "/api",
        "/api/v2/episodes",
    ):
        if path == "/":
            continue
        for method in ("GET", "POST", "DELETE"):
            (await greenroom.request(method, path, token="")).problem(404)
    (await greenroom.request("GET", "/favicon.ico?%00=%ff", token="")).problem(404)


async def test_a_method_that_is_none_names_those_that_are(greenroom):
    """
    405 with Allow.
    """
    wrong = {
        ("DELETE", "episodes"): {"GET", "POST"},
        ("POST", f"episodes/{NOBODYS}"): {"GET", "PUT", "PATCH", "DELETE"},
        ("PUT", f"episodes/{NOBODYS}/compositions"): {"GET", "POST"},
        ("POST", f"episodes/{NOBODYS}/events"): {"GET"},
        ("POST", "activity"): {"GET"},
        ("DELETE", "notifications"): {"GET"},
        ("GET", "notifications/read-all"): {"POST"},
        ("GET", "engine/plugins/audit/resume"): {"POST"},
        ("POST", "/healthz"): {"GET"},
        ("PATCH", "/metrics"): {"GET"},
    }
    for (method, path), allowed in wrong.items():
        answer = await greenroom.request(method, path, token="")
        answer.problem(405)
        assert set(answer.headers["allow"].split(", ")) - {"HEAD", "OPTIONS"} == allowed


async def test_too_many_requests_are_told_when_to_come_back(start_greenroom):
    """
    429 with Retry-After in whole seconds; of one user only, and never for health.
    """
    greenroom = await start_greenroom({"limits.requests_per_second": 1, "limits.request_burst": 3})
    answers = [await greenroom.request("GET", "episodes") for _ in range(8)]
    assert [answer.status for answer in answers[:3]] == [200, 200, 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert refused
    for answer in refused:
        answer.problem(429)
        assert int(answer.headers["retry-after"]) >= 1
    assert (await greenroom.request("GET", "episodes", user="carol@example.com")).status == 200
    for _ in range(5):
        assert (await greenroom.request("GET", "/healthz")).status == 200


class Strict:
    """
    A plugin with opinions.
    """

    @hookimpl
    def authorize(self, identity, action, resource):
        if action is Action.DELETE:
            return f"{identity.user} keeps {resource.type} {resource.id}"
        return None

    @hookimpl
    def validate_episode(self, before, after):
        if before and after["title"] < before["title"]:
            return [FieldError("title", "must not go back"), FieldError("status", "nor this")]
        if after["title"] == "Bug":
            raise ZeroDivisionError
        return None


async def test_plugins_may_refuse_with_their_own_words(start_greenroom):
    """
    authorize answers 403, validate_episode 422 with its fields; one that fails refuses with 503.
    """
    greenroom = await start_greenroom(plugins={"strict": Strict()})
    greenroom.may_log_tracebacks = True  # the plugin's own
    episode = await greenroom.create("M")
    path = f"episodes/{episode['id']}"
    forbidden = (await greenroom.request("DELETE", path)).problem(403)
    assert forbidden["detail"] == f"alice@example.com keeps episode {episode['id']}"
    assert (await greenroom.request("PATCH", path, {"title": "A"})).fields() == ["status", "title"]
    assert (await greenroom.request("PATCH", path, {"title": "Z"})).status == 200
    unsure = await greenroom.request("POST", "episodes", {"title": "Bug"})
    assert "strict" in unsure.problem(503)["detail"]
    assert int(unsure.headers["retry-after"]) >= 1
    assert greenroom.rows("select count(*) from events where starts_with(topic, 'episode:')") == [(2,)]


@pytest.mark.parametrize(
    "error",
    [
        ParkedError("episode/7 crashed too often: parked for at most 60 s"),
        ActorStoppedError("audit: the actor ended before it answered"),
        MailboxFullError("audit is full: 8 messages wait, the actor does not keep up"),
        SourceUnavailableError("SQS did not answer within 5 s"),
    ],
)
async def test_what_passes_by_itself_is_no_bug_of_the_node(greenroom, monkeypatch, error):
    """
    Whatever route meets it: 503, in the error's own words, and when to come back.
    """

    async def resume(self, name):
        raise error

    monkeypatch.setattr(Node, "resume_plugin", resume)
    answer = await greenroom.request("POST", "engine/plugins/audit/resume", role="operator")
    assert answer.problem(503)["detail"] == str(error)
    assert int(answer.headers["retry-after"]) >= 1
