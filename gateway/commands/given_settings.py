"""The settings that a command works with."""

from typing import Any

from gateway.commands.ending import BAD_SETTINGS, CommandFailed
from gateway.commands.misspelt import misspelt_settings
from gateway.config import BadSettings, Settings, load_settings


def readable_settings(**given: Any) -> Settings:
    """The settings in force, good or not; *given* ones go before the environment.

    Raises:
        CommandFailed: a value cannot be read.
    """
    try:
        return load_settings(**given)
    except BadSettings as error:
        raise CommandFailed(*error.sentences, code=BAD_SETTINGS) from None


def good_settings() -> Settings:
    """The settings in force.

    Raises:
        CommandFailed: a value cannot be read, is insecure or cannot work.
    """
    settings = readable_settings()
    require_good(settings)
    return settings


def require_good(settings: Settings) -> None:
    """Raise CommandFailed with all that is wrong with *settings*, and with variables that were to be one."""
    problems = [*misspelt_settings(), *settings.problems()]
    if problems:
        raise CommandFailed(*problems, code=BAD_SETTINGS)
