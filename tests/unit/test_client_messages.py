"""What the client makes of URLs, positions and tokens."""

import base64
import json

import pytest

from gateway.client.messages import Position, expiry, websocket_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/real-time"),
        ("http://127.0.0.1:8000/", "ws://127.0.0.1:8000/real-time"),
        ("https://greenroom.example.com", "wss://greenroom.example.com/real-time"),
        ("ws://[::1]:8000/real-time", "ws://[::1]:8000/real-time"),
        ("wss://example.com/behind/a/proxy?x=1", "wss://example.com/behind/a/proxy?x=1"),
    ],
)
def test_the_node_s_url_names_its_websocket(given: str, expected: str) -> None:
    """
    What the ready line prints will do, and so will the exact address.
    """
    assert websocket_url(given) == expected


@pytest.mark.parametrize(
    "given",
    ["", "127.0.0.1:8000", "ftp://example.com", "http://", "http:///x", "http://host:port", "ws://[::1"],
)
def test_what_is_no_url_of_a_node_is_refused_with_an_example(given: str) -> None:
    """
    The error says how one looks.
    """
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8000"):
        websocket_url(given)


@pytest.mark.parametrize(
    "position", [Position(7, "3f0a"), Position("731-12", "3f0a"), Position("a@b", "e"), Position(0, "0")]
)
def test_a_position_survives_as_text(position: Position) -> None:
    """
    It can be kept in a file or given on a command line.
    """
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "7", "@", "7@", "@e"])
def test_what_is_no_position_is_refused_with_an_example(text: str) -> None:
    """
    The error says how one looks.
    """
    with pytest.raises(ValueError, match="7@3f0a"):
        Position.parse(text)


def token_with(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"head.{body}.signature"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (token_with({"exp": 1700000000}), 1700000000.0),
        (token_with({"sub": "x"}), None),
        (token_with({"exp": "soon"}), None),
        (token_with([]), None),
        ("opaque", None),
        ("a.b.c", None),
        ("a.ü.c", None),
    ],
)
def test_a_token_says_when_it_expires_or_nothing(token: str, expected: float | None) -> None:
    """
    Whatever it is, reading it does not fail: verifying is the node's affair.
    """
    assert expiry(token) == expected
