"""The settings in force, and who follows their changes. Knows neither parts nor options."""

from collections.abc import Callable

import attrs
import structlog

from conf.changes import Changes, changes, taken_up
from conf.settings import Loaded, Settings, SettingsError
from engine.errors import EngineError

log = structlog.get_logger(__name__)

Follower = Callable[[Settings], None]


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

    def follow(self, follower: Follower) -> None:
        """
        Let somebody be told the settings whenever they change. It must neither raise nor block.
        """
        self._followers.append(follower)

    def preview(self) -> Changes:
        """
        What `reload` would change. Raises SettingsError, NoSourceError.
        """
        return changes(self.settings, self._read())

    def reload(self) -> Changes:
        """
        Read the settings anew and take up what a running node can; if anything is wrong, nothing.

        Raises SettingsError with every mistake, NoSourceError.
        """
        try:
            wanted = self._read()
        except SettingsError as error:
            mistakes = [str(mistake) for mistake in error.mistakes]
            log.error("the settings are wrong; the old ones stay in force", mistakes=mistakes)
            raise
        found = changes(self.settings, wanted)
        if found.live:
            self.settings = taken_up(self.settings, wanted.settings)
            for follower in self._followers:
                follower(self.settings)
        log.info(
            "the settings were read anew",
            changed=list(map(str, found.live)),
            needs_restart=list(map(str, found.restart)),
        )
        return found

    def _read(self) -> Loaded:
        if self.source is None:
            raise NoSourceError("this node was started with settings from no file; restart it to change them")
        return self.source()
