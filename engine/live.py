"""The settings in force, and who follows their changes. Knows neither parts nor options."""

from collections.abc import Callable

import attrs
import structlog

from conf.changes import Changes, changes, taken_up
from conf.settings import Loaded, Settings, SettingsError
from engine.errors import EngineError, StartupError

log = structlog.get_logger(__name__)

Follower = Callable[[Settings], None]


@attrs.frozen
class Renewal:
    """
    A file that an option names has another content, which was found to be right: `take` takes it up.
    """

    option: str
    take: Callable[[], None]


# Reads a file again; None when it is as it was. Raises StartupError for what is wrong with it.
Reader = Callable[[], Renewal | None]


class NoSourceError(EngineError):
    """
    This node was given its settings, and cannot read them anew. Answer 409.
    """


@attrs.define(eq=False)
class Live:
    """
    Own the settings in force.

    `source` reads them anew, from where the node was told to at its start; it raises SettingsError.
    """

    settings: Settings
    source: Callable[[], Loaded] | None = attrs.field(default=None, kw_only=True)
    _followers: list[Follower] = attrs.field(factory=list, init=False)
    _readers: list[Reader] = attrs.field(factory=list, init=False)

    def follow(self, follower: Follower) -> None:
        """
        Let somebody be told the settings whenever they change. It must neither raise nor block.
        """
        self._followers.append(follower)

    def renew(self, reader: Reader) -> None:
        """
        Let a file that an option names be read again at each reload.
        """
        self._readers.append(reader)

    def preview(self) -> Changes:
        """
        What `reload` would change. Raises as it does.
        """
        return self._found()[0]

    def reload(self) -> Changes:
        """
        Read the settings anew and take up what a running node can; if anything is wrong, nothing.

        Raises SettingsError with every mistake, StartupError for a file that an option names, NoSourceError.
        """
        try:
            found, wanted, renewals = self._found()
        except (SettingsError, StartupError) as error:
            log.error("the settings are wrong; the old ones stay in force", mistakes=str(error).splitlines())
            raise
        for renewal in renewals:
            renewal.take()
        if found.live:
            self.settings = taken_up(self.settings, wanted.settings)
            for follower in self._followers:
                follower(self.settings)
        log.info(
            "the settings were read anew",
            changed=list(map(str, found.live)),
            needs_restart=list(map(str, found.restart)),
            renewed=list(found.renewed),
        )
        return found

    def _found(self) -> tuple[Changes, Loaded, list[Renewal]]:
        wanted = self._read()
        renewals = [renewal for read in self._readers if (renewal := read()) is not None]
        found = changes(self.settings, wanted)
        return attrs.evolve(found, renewed=tuple(one.option for one in renewals)), wanted, renewals

    def _read(self) -> Loaded:
        if self.source is None:
            raise NoSourceError("this node was started with settings from no file; restart it to change them")
        return self.source()
