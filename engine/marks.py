"""Marks: what plugins say of viewers, shown with them. Plain data without a task, gone with the node."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import attrs

from engine.domain.event import EpisodeId, UserId
from engine.errors import PluginError

# Marks in all of the node; a plugin that forgets to take its marks back must not fill the memory.
MOST = 10_000
# Characters of one mark.
LONGEST = 200

_NONE: Mapping[str, str] = MappingProxyType({})


@attrs.define(eq=False)
class Marks:
    """
    Own every plugin's marks. `on_change` is told whose viewer looks different now.
    """

    on_change: Callable[[EpisodeId, UserId], None] = lambda *_: None
    # By episode and person, then by plugin.
    _marks: dict[tuple[EpisodeId, UserId], dict[str, str]] = attrs.field(factory=dict, init=False)

    def put(self, plugin: str, episode: EpisodeId, user: UserId, text: str | None) -> None:
        """
        Mark a person on an episode, present or not; None takes the mark back. Raises PluginError.
        """
        if text is not None and not (0 < len(text) <= LONGEST and text.isprintable()):
            raise PluginError(
                f"plugin {plugin}: a mark is 1 to {LONGEST} printable characters, not {text!r:.50}"
            )
        known = self._marks.get((episode, user), {})
        if known.get(plugin) == text:
            return
        if text is not None and not known and len(self._marks) >= MOST:
            raise PluginError(f"plugin {plugin}: {MOST} people are marked already; take marks back")
        marks = {name: mark for name, mark in known.items() if name != plugin}
        if text is not None:
            marks[plugin] = text
        if marks:
            self._marks[episode, user] = marks
        else:
            del self._marks[episode, user]
        self.on_change(episode, user)

    def of(self, episode: EpisodeId) -> Callable[[UserId], Mapping[str, str]]:
        """
        The marks of an episode's viewers, as they are whenever it is asked.
        """
        return lambda user: self._marks.get((episode, user), _NONE)
