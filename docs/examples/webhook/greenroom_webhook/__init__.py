"""An outgoing webhook, Slack-style: signed, tried again until it is taken, and each event delivered once."""

import hashlib
import hmac
import http.client
import json
import time
from urllib.parse import urlsplit

import attrs
import structlog
import trio

from engine.hookspecs import Context, Duration, Engine, Event, Secret, SomeText, hookimpl

log = structlog.get_logger()

TABLE = """
create table if not exists webhook_deliveries (
    event_id     uuid primary key,
    delivered_at timestamptz not null default now()
)
"""
KNOWN = "select from webhook_deliveries where event_id = %s"
DELIVERED = "insert into webhook_deliveries (event_id) values (%s) on conflict do nothing"


class NotTakenError(Exception):
    """
    The receiver did not take it. Raised out of the hook, so that the engine tries again, with backoff.
    """


@attrs.frozen(kw_only=True)
class Settings:
    """
    What may stand in [plugins.webhook].
    """

    url: SomeText
    # Shared with the receiver, who checks `X-Greenroom-Signature` with it.
    secret: Secret
    kinds: tuple[str, ...] = ("episode_created", "episode_deleted")
    timeout: Duration = 5.0

    def __attrs_post_init__(self) -> None:
        address = urlsplit(self.url)
        if address.scheme != "https" and address.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("url must be https://…, or http://… on this machine")
        if len(self.secret) < 16:
            raise ValueError("secret must have at least 16 characters")


@hookimpl
def settings() -> type:
    return Settings


@hookimpl
async def engine_started(engine: Engine) -> None:
    async with engine.transaction() as transaction:
        await transaction.execute(TABLE)


@hookimpl
async def on_event(context: Context, event: Event) -> None:
    """
    Deliver, then remember it in the transaction that also moves the cursor.

    Between the two a crash may deliver the event a second time: its id, in a header, lets the receiver tell.
    No transaction is open while the receiver is waited for: that would hold up everybody's log.
    """
    told: Settings = context.settings
    if event.type not in told.kinds:
        return
    async with context.engine.transaction() as transaction:
        if await transaction.fetch(KNOWN, [event.id]):
            return
    body = json.dumps({"text": text_of(event), "event": event.type, "id": event.id}).encode()
    now = int(time.time())
    status = await post(
        told,
        body,
        {
            "Content-Type": "application/json",
            "X-Greenroom-Event": event.id,
            "X-Greenroom-Signature": f"t={now},v1={signature(told.secret, now, body)}",
        },
    )
    context.metrics.counter("deliveries", "Answers of the receiver.", ["status"]).add(status=str(status))
    if not 200 <= status < 300:
        raise NotTakenError(f"{urlsplit(told.url).hostname} answered {status}")
    async with context.transaction() as transaction:
        await transaction.execute(DELIVERED, [event.id])


def signature(secret: str, at: int, body: bytes) -> str:
    """
    HMAC-SHA256 of the time and the body: who knows the secret can tell that neither was changed.
    """
    return hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()


def text_of(event: Event) -> str:
    """
    The event in a sentence.
    """
    episode = event.data.get("episode")
    title = episode.get("title", "?") if isinstance(episode, dict) else "?"
    return f"{event.user}: {event.type.replace('_', ' ')} – {title}"


async def post(told: Settings, body: bytes, headers: dict[str, str]) -> int:
    """
    The status that the receiver answers. In a thread, so that nobody waits but this plugin.
    """
    return await trio.to_thread.run_sync(_post, told, body, headers, abandon_on_cancel=True)


def _post(told: Settings, body: bytes, headers: dict[str, str]) -> int:
    address = urlsplit(told.url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=told.timeout)
    try:
        target = (address.path or "/") + (f"?{address.query}" if address.query else "")
        connection.request("POST", target, body, headers)
        return connection.getresponse().status
    except OSError as error:
        raise NotTakenError(f"{address.hostname}: {error}") from error
    finally:
        connection.close()
