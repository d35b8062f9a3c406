"""Idempotency keys: a creation that is asked for again is answered as it was the first time."""

import hashlib

import msgspec

from engine.store.episodes import Idempotency, Replay
from gateway.rest.messages import Response, request
from gateway.rest.problems import Problem

MAX_KEY = 200


def idempotency(given: object) -> Idempotency | None:
    """
    The request's `Idempotency-Key`, with what it asks for. Raises Problem 400.
    """
    key = request().header(b"idempotency-key")
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise Problem(400, f"Idempotency-Key must be 1 to {MAX_KEY} printable characters")
    fingerprint = hashlib.sha256(msgspec.json.encode(given, order="deterministic")).hexdigest()
    return Idempotency(key=key, fingerprint=fingerprint)


def check_same(done: Replay, key: Idempotency | None) -> None:
    """
    Hold the request to the one that had its key first. Raises Problem 422.
    """
    if key is None or done.fingerprint != key.fingerprint:
        raise Problem(422, "this Idempotency-Key was used for another request; use a new one")


def replayed(response: Response) -> Response:
    """
    The answer, marked as one that was given before.
    """
    response.headers["Idempotency-Replayed"] = "true"
    return response
