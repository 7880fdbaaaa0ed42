"""The README as a package index shows it, where links to files of the repository lead nowhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# A link or a picture whose target is a file of the repository.
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def long_description(readme: str, repository: str | None) -> str:
    """The README with links that work anywhere.

    Args:
        readme: The README of the repository.
        repository: The repository's address; None: it has none, so texts stay without their links,
            and pictures are left out.
    """

    def elsewhere(link: re.Match[str]) -> str:
        mark, text, target = link.groups()
        if repository is None:
            return "" if mark else text
        kind = "raw" if mark else "blob"
        return f"{mark}[{text}]({repository.rstrip('/')}/{kind}/HEAD/{target})"

    return _RELATIVE.sub(elsewhere, readme)


class ReadmeHook(MetadataHookInterface):
    """Takes the address from `Repository` in `[project.urls]`, the one place where it stands."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`, which pyproject.toml lists as dynamic."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        text = long_description(readme, repository)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
