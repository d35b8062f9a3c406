"""Signing in to the console by name: for people at this machine, and nobody else."""

import pytest

AT_HOME = {"Host": "127.0.0.1:8000"}


async def test_whoever_is_at_this_machine_may_sign_in_under_any_name_and_role(greenroom):
    """
    The token that comes back is one like any other.
    """
    ways = await greenroom.request("GET", "sign-in", token="", headers=AT_HOME)
    assert ways.json == {"local": True, "reason": ""}
    given = {"name": "Alice Smith", "role": "operator"}
    signed_in = (await greenroom.request("POST", "sign-in", given, token="", headers=AT_HOME)).json
    assert (signed_in["user"], signed_in["name"], signed_in["role"]) == (
        "Alice Smith",
        "Alice Smith",
        "operator",
    )
    assert (await greenroom.request("GET", "engine/tree", token=signed_in["token"])).status == 200


async def test_a_name_may_stand_for_another_id(greenroom):
    """
    An editor, if nothing else is said.
    """
    given = {"name": "Bob", "user": "bob@example.com"}
    signed_in = (await greenroom.request("POST", "sign-in", given, token="", headers=AT_HOME)).json
    assert (signed_in["user"], signed_in["role"]) == ("bob@example.com", "editor")


@pytest.mark.parametrize(
    "given", [{}, {"name": ""}, {"name": "x", "role": "king"}, {"name": 1}, {"nom": "x"}]
)
async def test_a_wish_that_makes_no_sense_is_refused_by_field(greenroom, given):
    """
    422, as everywhere.
    """
    answer = await greenroom.request("POST", "sign-in", given, token="", headers=AT_HOME)
    assert answer.fields() != []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "greenroom.example.com"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "[nonsense"},
        {**AT_HOME, "X-Forwarded-For": "192.0.2.1"},
        {**AT_HOME, "Forwarded": "for=192.0.2.1"},
        {**AT_HOME, "Via": "1.1 proxy"},
    ],
)
async def test_whoever_comes_by_another_name_or_through_a_proxy_needs_a_token(greenroom, headers):
    """
    A name that leads here may be a foreign page's choice, and a proxy may bring anybody.
    """
    assert (await greenroom.request("GET", "sign-in", token="", headers=headers)).json["local"] is False
    refused = await greenroom.request("POST", "sign-in", {"name": "Mallory"}, token="", headers=headers)
    assert "token" in refused.problem(403)["detail"] or "127.0.0.1" in refused.problem(403)["detail"]


@pytest.mark.parametrize(
    "options",
    [
        {"auth.local_sign_in": False},
        {"auth.secret": "another secret of at least thirty-two bytes"},
        {"server.host": "0.0.0.0"},
    ],
)
async def test_a_node_with_users_of_its_own_lets_nobody_in_by_name(start_greenroom, options):
    """
    A configured secret, an address that others reach, or the operator's word: tokens only.
    """
    node = await start_greenroom(options)
    ways = (await node.request("GET", "sign-in", token="", headers=AT_HOME)).json
    assert ways["local"] is False
    assert "token" in ways["reason"]
    refused = await node.request("POST", "sign-in", {"name": "Mallory"}, token="", headers=AT_HOME)
    refused.problem(403)


async def test_a_form_of_a_foreign_page_signs_nobody_in(greenroom):
    """
    Without asking first, another origin can only send types that are no JSON.
    """
    headers = {**AT_HOME, "Content-Type": "text/plain", "Content-Length": "15"}
    answer = await greenroom.send("POST", "sign-in", b'{"name": "Eve"}', {**headers, "Connection": "close"})
    answer.problem(415)
