"""The job `composition.render`: draws a composition's layers to a PNG, which REST then serves."""

import hashlib
from collections.abc import Mapping
from typing import Any

import attrs

from engine.domain.fields import FieldError, Invalid, check_fields, uuid_text, whole_number
from engine.hookspecs import Discard, JobContext, JobHandler, JobTransaction, hookimpl
from plugins.drawing import process
from plugins.drawing.canvas import MAX_PIXELS, MAX_SIDE
from plugins.drawing.order import Drawn, Order, UndrawableError

WIDTH, HEIGHT = 1920, 1080
DIGEST_LENGTH = 32

READ = """
select composition.episode_id::text, composition.version, composition.layers
from compositions as composition join episodes on episodes.id = composition.episode_id
where composition.id = %s and deleted_at is null
"""
# The episode's lock first, as everybody takes it who writes a composition.
LOCK = "select from episodes where id = %s and deleted_at is null for no key update"
KEEP = """
insert into composition_images (composition_id, version, png, digest, drawn_at)
select id, %(version)s, %(png)s, %(digest)s, now() from compositions where id = %(id)s
on conflict (composition_id) do update
set version = excluded.version, png = excluded.png, digest = excluded.digest, drawn_at = excluded.drawn_at
where composition_images.version <= excluded.version
"""
# A picture that was not kept although there is one: it is of a newer version.
NEWER = "select version from composition_images where composition_id = %s"

FIELDS = {
    "composition_id": uuid_text(),
    "episode_id": uuid_text(optional=True),
    "width": whole_number(least=1, most=MAX_SIDE, optional=True),
    "height": whole_number(least=1, most=MAX_SIDE, optional=True),
}


@attrs.frozen(kw_only=True)
class Wanted:
    """
    A payload: what is to be drawn, and how large in pixels; `episode_id` is the composition's, if given.
    """

    composition_id: str
    episode_id: str | None
    width: int
    height: int


@attrs.frozen(kw_only=True)
class Found:
    """
    The composition as it was when the job began.
    """

    episode_id: str
    version: int
    layers: list[Mapping[str, Any]]


@hookimpl
def job_handlers() -> list[JobHandler]:
    """
    Few at a time: a large picture takes some hundred megabytes while it is drawn.
    """
    return [
        JobHandler(
            type="composition.render",
            run=render,
            max_attempts=3,
            timeout=120.0,
            concurrency=2,
            check=mistakes,
        )
    ]


def mistakes(payload: Mapping[str, Any]) -> tuple[FieldError, ...]:
    """
    What is wrong with the payload of a submission.
    """
    wanted = _wanted(payload)
    return wanted.errors if isinstance(wanted, Invalid) else ()


async def render(context: JobContext) -> dict[str, Any]:
    """
    Draw the composition as it is now, and keep the picture; the one of a newer version is never replaced.
    """
    wanted = _wanted(context.job.payload)
    assert isinstance(wanted, Wanted), "the submission was checked"
    found = await _find(context, wanted)
    drawn = await _draw(context, wanted, found)
    async with context.transaction() as transaction:
        await _keep(transaction, wanted, found, drawn.png)
    return {
        "composition_id": wanted.composition_id,
        "version": found.version,
        "image": f"/api/v1/episodes/{found.episode_id}/compositions/{wanted.composition_id}/image",
        "width": wanted.width,
        "height": wanted.height,
        "bytes": len(drawn.png),
        "warnings": drawn.warnings,
    }


def _wanted(payload: Mapping[str, Any]) -> Wanted | Invalid:
    fields = check_fields(payload, FIELDS, required=("composition_id",))
    if isinstance(fields, Invalid):
        return fields
    width, height = fields.get("width") or WIDTH, fields.get("height") or HEIGHT
    if width * height > MAX_PIXELS:
        wrong = f"times height must be at most {MAX_PIXELS:,} pixels, not {width * height:,}"
        return Invalid((FieldError("width", wrong),))
    return Wanted(
        composition_id=fields["composition_id"],
        episode_id=fields.get("episode_id"),
        width=width,
        height=height,
    )


async def _find(context: JobContext, wanted: Wanted) -> Found:
    # Not in the job's own transaction, which would be held open while it is drawn.
    async with context.engine.transaction() as transaction:
        rows = await transaction.fetch(READ, [wanted.composition_id])
    if not rows:
        raise Discard(f"there is no composition {wanted.composition_id}")
    found = Found(**rows[0])
    for named in (wanted.episode_id, context.job.episode_id):
        if named is not None and named != found.episode_id:
            raise Discard(
                f"composition {wanted.composition_id} is of episode {found.episode_id}, not of {named}"
            )
    return found


async def _draw(context: JobContext, wanted: Wanted, found: Found) -> Drawn:
    order = Order(layers=found.layers, width=wanted.width, height=wanted.height, data_dir=context.data_dir)
    try:
        return await process.draw(
            order, lambda done: context.progress(done, f"drawing version {found.version}")
        )
    except UndrawableError as error:
        raise Discard(
            f"composition {wanted.composition_id}, version {found.version}, cannot be drawn\n{error}"
        ) from None


async def _keep(transaction: JobTransaction, wanted: Wanted, found: Found, png: bytes) -> None:
    kept = {
        "id": wanted.composition_id,
        "version": found.version,
        "png": png,
        "digest": hashlib.sha256(png).hexdigest()[:DIGEST_LENGTH],
    }
    there = await transaction.execute(LOCK, [found.episode_id])
    if there and await transaction.execute(KEEP, kept):
        return
    if not there or not await transaction.fetch(NEWER, [wanted.composition_id]):
        raise Discard(f"composition {wanted.composition_id} was deleted while it was drawn")
