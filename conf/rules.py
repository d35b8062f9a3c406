"""What must hold between options, each of which may be right by itself."""

from collections.abc import Iterator

import attrs

from conf.tree import Child, Settings


@attrs.frozen(kw_only=True)
class Broken:
    """
    A rule that the settings break: the option to change, the others that take part, what would be right.
    """

    option: str
    others: tuple[str, ...]
    remedy: str


def broken(settings: Settings) -> Iterator[Broken]:
    """
    Check every rule.
    """
    yield from _tls(settings)
    if {"/", ":"} & set(settings.node.name):
        yield Broken(
            option="node.name",
            others=(),
            remedy='must be without "/" and ":", by which leases tell nodes apart',
        )
    if settings.sqs.queue_url and settings.sqs.wait >= settings.node.shutdown_grace:
        yield Broken(
            option="sqs.wait",
            others=("node.shutdown_grace",),
            remedy="must be shorter than node.shutdown_grace, because the end of the node waits for a poll",
        )
    for field in attrs.fields(type(settings.supervision)):
        child: Child = getattr(settings.supervision, field.name)
        if child.backoff_first > child.backoff_cap:
            table = f"supervision.{field.name}"
            yield Broken(
                option=f"{table}.backoff_first",
                others=(f"{table}.backoff_cap",),
                remedy=f"must not be longer than {table}.backoff_cap",
            )


def _tls(settings: Settings) -> Iterator[Broken]:
    certificate, key = "server.tls_certificate", "server.tls_key"
    given, missing = (certificate, key) if settings.server.tls_certificate else (key, certificate)
    if bool(settings.server.tls_certificate) != bool(settings.server.tls_key):
        yield Broken(option=given, others=(missing,), remedy=f"needs {missing} too")
