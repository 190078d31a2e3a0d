"""The settings as people read them: value, origin and reason, never a secret."""

import os
from typing import Any

from pydantic import SecretStr
from pydantic_settings import TomlConfigSettingsSource

from alignstream.models.registry.layout import address
from alignstream.streams.settings import PREFIX, Settings, config_file, load

MASK = "********"


def shown_settings() -> list[dict[str, str]]:
    """Return name, value, origin and description of every setting, as text.

    Raises
    ------
    SettingsError
        A setting is unknown or malformed.
    """
    settings = load()
    sources = origins()
    return [
        {
            "name": name,
            "value": masked(name, getattr(settings, name)),
            "from": sources[name],
            "description": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]


def masked(name: str, value: Any) -> str:  # noqa: ANN401 (value of any setting)
    """Return a value as text; passwords become asterisks, also those inside a URL."""
    if isinstance(value, SecretStr):
        return MASK
    text = "" if value is None else str(value)
    if name == "redis_url":
        # A password may be in several parts of a URL: show only what certainly holds none.
        shown = address(text)
        return shown if shown == text else f"{shown} ({MASK})"
    return text


def origins() -> dict[str, str]:
    """Return where each setting's value comes from: ``environment``, the TOML file's path, or ``default``."""
    path = config_file()
    in_file = set(TomlConfigSettingsSource(Settings, toml_file=path)()) if path is not None else set()
    environment = {key.upper() for key in os.environ}
    return {
        name: "environment"
        if f"{PREFIX}{name.upper()}" in environment
        else (str(path) if name in in_file else "default")
        for name in Settings.model_fields
    }
