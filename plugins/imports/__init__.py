"""The job `episode.import`: reads a file of episodes and creates all of them, or none."""

from collections.abc import Mapping
from typing import Any

import trio

from engine.domain.fields import FieldError, Invalid, check_fields
from engine.hookspecs import Discard, InvalidEpisodesError, JobContext, JobHandler, hookimpl
from plugins.beneath import FileRefusedError, read_beneath, relative_path
from plugins.imports.parsing import MAX_BYTES, READERS, Checked, Refused, parse, suffix_of
from plugins.imports.rows import Mistake

FOLDER = "imports"
# How much of the work is done when every episode was checked.
CHECKED = 0.8


@hookimpl
def job_handlers() -> list[JobHandler]:
    """
    One at a time for each file: the second of two imports would create everything again.
    """
    return [
        JobHandler(
            type="episode.import",
            run=import_episodes,
            timeout=120.0,
            concurrency=2,
            check=mistakes,
            unique=lambda payload: str(payload["path"]),
        )
    ]


def mistakes(payload: Mapping[str, Any]) -> tuple[FieldError, ...]:
    """
    What is wrong with the payload of a submission.
    """
    found = check_fields(payload, {"path": _path}, required=("path",))
    return found.errors if isinstance(found, Invalid) else ()


async def import_episodes(context: JobContext) -> dict[str, Any]:
    """
    Read and check first, and write when all is right: the transaction, which holds up the log, is short.

    Whatever crashes, a next attempt begins anew with nothing written; once the episodes are committed, so
    is the completion.
    """
    path = str(context.job.payload["path"])
    await context.progress(0.0, f"reading {path}")
    # Cancelled, nobody waits for the thread; it ends when it next tells something.
    episodes = await trio.to_thread.run_sync(_read, context, path, abandon_on_cancel=True)
    await context.progress(CHECKED, f"creating {len(episodes)} episodes")
    async with context.transaction() as transaction:
        try:
            await transaction.create_episodes([episode.fields for episode in episodes])
        except InvalidEpisodesError as error:
            raise Discard(f"{FOLDER}/{path}: {_refusal(episodes, error)}") from None
    return {"path": path, "episodes": len(episodes)}


def _path(value: object) -> object:
    path = relative_path(value)
    if suffix_of(path) is None:
        raise ValueError(f"must end with {' or '.join(READERS)}, which says how the file is read")
    return path


def _read(context: JobContext, path: str) -> list[Checked]:
    """
    Read and check the file, in a thread.
    """
    try:
        data = read_beneath(context.data_dir, FOLDER, path, MAX_BYTES)
    except FileRefusedError as error:
        raise Discard(str(error)) from None
    suffix = suffix_of(path)
    assert suffix is not None, "the submission was checked"
    found = parse(
        suffix,
        data,
        lambda part: context.progress_from_thread(part * CHECKED, f"checking {path}"),
    )
    if isinstance(found, Refused):
        raise Discard(f"{FOLDER}/{path}: {found}")
    return found


def _refusal(episodes: list[Checked], error: InvalidEpisodesError) -> Refused:
    return Refused.of(
        [Mistake(episodes[place].line, wrong.field, wrong.message) for place, wrong in error.errors]
    )
