"""Every error of Greenroom's own; each docstring says what whoever catches it should do."""


class EngineError(Exception):
    """
    Base of all errors that Greenroom raises on purpose.

    Its text is written for the person who has to act on it: what was wrong, where, what would be right.
    """


class StartupError(EngineError):
    """
    The node cannot start as it was asked to. Print the text on stderr and exit with 2.
    """


class StoreUnavailableError(EngineError):
    """
    The database is away, or slower than the deadline. Nothing is known of the statement's fate.

    Answer 503 with Retry-After, or try again with backoff: the store reconnects by itself.
    """


class SourceUnavailableError(EngineError):
    """
    A job source is away, slower than its deadline, or refuses. Nothing is known of the request's fate.

    Try again with backoff: whatever is asked of a source may be asked twice.
    """


class MailboxFullError(EngineError):
    """
    The actor does not keep up. Drop what can be brought again later, refuse what cannot.
    """


class ActorStoppedError(EngineError):
    """
    The actor ended before it answered. Ask again: the registry or the supervisor starts another.
    """


class ParkedError(EngineError):
    """
    The child crashed too often and is parked until its cool-down ends; try again later.
    """


class PluginError(EngineError):
    """
    A plugin cannot be loaded or breaks the contract; the text names the plugin and the hook.
    """
