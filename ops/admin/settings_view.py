"""The settings as people read them: value, origin and reason, never a secret."""

from typing import Any

from pydantic import SecretStr

from alignstream.models.registry.layout import address
from alignstream.streams.settings import Settings, load, origins

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
