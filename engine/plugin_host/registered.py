"""What plugins register under names, held to the contract: each name stands for one plugin in all."""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar, cast

import attrs

from engine.errors import PluginError

T = TypeVar("T")


@attrs.define(eq=False, kw_only=True)
class Registered(Generic[T]):
    """
    Own what plugins answered to one hook.
    """

    hook: str
    # What is wrong with one of them, if anything.
    mistake: Callable[[object], str | None]
    name: Callable[[T], str]
    # What is said of a name that another plugin has: "jobs of type x are already run".
    taken: Callable[[str], str]
    _found: dict[str, tuple[str, T]] = attrs.field(factory=dict, init=False)

    def add(self, plugin: str, given: Iterable[object]) -> None:
        """
        Take what a plugin answered. Raises PluginError for what breaks the contract.
        """
        for one in given:
            if mistake := self.mistake(one):
                raise PluginError(f"plugin {plugin}: {self.hook}: {mistake}")
            name = self.name(known := cast(T, one))
            if name in self._found:
                raise PluginError(f"plugin {plugin}: {self.taken(name)} by plugin {self.plugin_of(name)}")
            self._found[name] = (plugin, known)

    def by_name(self) -> Mapping[str, T]:
        """
        All of it.
        """
        return {name: one for name, (_, one) in self._found.items()}

    def by_plugin(self) -> Iterable[tuple[str, T]]:
        """
        All of it, each with the plugin whose it is.
        """
        return self._found.values()

    def plugin_of(self, name: str) -> str:
        """
        The plugin that has registered a name.
        """
        return self._found[name][0]
