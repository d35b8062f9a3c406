"""Messages behind TLS are joined as lines, whatever is in them."""

from gateway.protocol import JSON_LINES, JsonLines, ok


def test_a_message_is_split_nowhere_but_at_its_end() -> None:
    """
    JSON may have line and paragraph separators in its texts, and what terminals once took for line ends.
    """
    titles = ["a\u2028b", "c\u2029d", "e\x85f", "g\nh", ""]
    joined = b"".join(JSON_LINES.wrap(ok(None, title=title)) for title in titles)
    assert JsonLines.split(joined) == [ok(None, title=title).decode() for title in titles]
    assert JsonLines.split(b"") == []
