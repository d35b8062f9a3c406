"""The webhook: tried again until it is taken, once for each event, and signed."""

import http.server
import threading

import greenroom_webhook as webhook
import pytest
import trio

from engine.testing import simulate

OPTIONS = {"plugins.webhook.url": "http://127.0.0.1:9/hook", "plugins.webhook.secret": "sixteen characters"}


class Receiver:
    """
    Stands for the network: answers what it was told to, and remembers what it got.
    """

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.got = []

    async def post(self, told, body, headers):
        await trio.sleep(0.1)
        self.got.append((headers["X-Greenroom-Event"], body, headers["X-Greenroom-Signature"]))
        return self.statuses.pop(0) if self.statuses else 204


def test_an_event_is_tried_again_until_the_receiver_takes_it(monkeypatch):
    """
    Two refusals, then it is taken; the next event comes after it.
    """
    receiver = Receiver(500, 503)
    monkeypatch.setattr(webhook, "post", receiver.post)

    async def scenario(engine):
        await engine.create("Pilot")
        await engine.create("Second")
        await engine.advance(600)
        await engine.settle()
        events = [event.id for event in engine.store.tables.events]
        assert [id for id, _, _ in receiver.got] == [events[0]] * 3 + events[1:]
        inserted = [one.params for one in engine.script.committed if "insert" in one.query]
        assert inserted == [[id] for id in events]

    simulate(scenario, plugins={"webhook": webhook}, options=OPTIONS)


def test_what_was_delivered_is_not_delivered_again_by_a_replay(monkeypatch):
    """
    The table knows.
    """
    receiver = Receiver()
    monkeypatch.setattr(webhook, "post", receiver.post)

    async def scenario(engine):
        def known(params):
            return [one for one in engine.script.committed if one.params == params]

        engine.script.answer("select from webhook_deliveries", known)
        await engine.create("Pilot")
        await engine.settle()
        await engine.store.cursors.replay("webhook", None)
        await engine.restart("webhook")
        await engine.advance(60)
        assert len(receiver.got) == 1

    simulate(scenario, plugins={"webhook": webhook}, options=OPTIONS)


def test_the_receiver_can_check_the_signature_and_a_change_is_noticed():
    """
    As its documentation tells it to.
    """
    right = webhook.signature("sixteen characters", 1767225600, b'{"text": "x"}')
    assert len(right) == 64
    assert right != webhook.signature("sixteen characters", 1767225600, b'{"text": "y"}')
    assert right != webhook.signature("sixteen characters", 1767225601, b'{"text": "x"}')
    assert right != webhook.signature("another secret of ours", 1767225600, b'{"text": "x"}')


def test_it_speaks_http_to_a_real_receiver():
    """
    Status and body go over a real socket; nobody there is a failure that says who.
    """
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        told = webhook.Settings(
            url=f"http://127.0.0.1:{server.server_port}/hook?a=1", secret="sixteen characters"
        )
        assert trio.run(webhook.post, told, b"{}", {"Content-Type": "application/json"}) == 202
        server.shutdown()
    assert got == [("/hook?a=1", b"{}")]
    with pytest.raises(webhook.NotTakenError, match=r"127\.0\.0\.1: .*refused"):
        trio.run(webhook.post, told, b"{}", {})


def test_a_url_that_is_not_safe_and_a_secret_that_is_too_short_are_refused():
    """
    The operator is told when the settings are checked.
    """
    with pytest.raises(ValueError, match="https"):
        webhook.Settings(url="http://example.com", secret="sixteen characters")
    with pytest.raises(ValueError, match="at least 16"):
        webhook.Settings(url="https://example.com", secret="short")
