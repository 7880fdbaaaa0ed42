"""The names of options in dlt's configuration. dlt leaves those that it does not know aside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from dagster_qdrant.errors import QdrantConfigurationError


def refuse_unknown_names(section: str, known: Mapping[str, object]) -> None:
    """Refuse options in toml files and environment variables that would have no effect.

    Args:
        section: Where options are, as "destination.qdrant".
        known: The names that there are, and for those of a section the names in that.

    Raises:
        QdrantConfigurationError: With the option, and those that it resembles.
    """
    for place, name in _configured(section):
        if name in known:
            continue
        raise QdrantConfigurationError(
            f"{place} sets `{name}` for `{section}`, which has no such option."
            f"{did_you_mean(name, known)} It has {', '.join(sorted(known))}."
        )
    for name, names in known.items():
        if isinstance(names, Mapping):
            refuse_unknown_names(f"{section}.{name}", names)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the names that an unknown one resembles, after a space; "" if it is none."""
    alike = get_close_matches(name, list(known), n=3)
    return f" Did you mean {' or '.join(f'`{each}`' for each in alike)}?" if alike else ""


def _configured(section: str) -> Iterator[tuple[str, str]]:
    """Where options of a section are set, and their names."""
    import dlt
    from dlt.common.configuration.providers.toml import SettingsTomlProvider

    *sections, last = section.split(".")
    for provider in dlt.config.config_providers:
        if isinstance(provider, SettingsTomlProvider):
            options, _ = provider.get_value(last, dict, "", *sections)
            for name in options if isinstance(options, Mapping) else ():
                yield provider.name, name
    prefix = f"{section.replace('.', '__').upper()}__"
    for variable in os.environ:
        if variable.startswith(prefix):
            yield f"`{variable}`", variable.removeprefix(prefix).partition("__")[0].lower()
