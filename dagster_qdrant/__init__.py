"""Load dlt resources into Qdrant with Dagster: embedded locally, only what changed, nothing lost.

Names are imported when they are used, so that `import dagster_qdrant` costs nothing in the many
processes of a Dagster deployment.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_qdrant.adapter import qdrant_adapter
    from dagster_qdrant.assets import build_qdrant_assets, qdrant_assets
    from dagster_qdrant.checks import build_qdrant_checks
    from dagster_qdrant.component import QdrantCollectionsComponent
    from dagster_qdrant.destination.reranking import Rerank
    from dagster_qdrant.destination.tables.chunks import Chunking
    from dagster_qdrant.destination.tables.keywords import Keywords
    from dagster_qdrant.destination.tables.named_vectors import NamedVector
    from dagster_qdrant.errors import (
        QdrantConfigurationError,
        QdrantError,
        QdrantTerminalError,
        QdrantTransientError,
    )
    from dagster_qdrant.io_manager import QdrantCollection, QdrantIOManager
    from dagster_qdrant.resource import QdrantResource
    from dagster_qdrant.translator import QdrantDltTranslator

__version__ = "0.1.0"

_MODULES = {
    "Chunking": "destination.tables.chunks",
    "Keywords": "destination.tables.keywords",
    "NamedVector": "destination.tables.named_vectors",
    "QdrantCollection": "io_manager",
    "QdrantCollectionsComponent": "component",
    "QdrantConfigurationError": "errors",
    "QdrantDltTranslator": "translator",
    "QdrantError": "errors",
    "QdrantIOManager": "io_manager",
    "QdrantResource": "resource",
    "QdrantTerminalError": "errors",
    "QdrantTransientError": "errors",
    "Rerank": "destination.reranking",
    "build_qdrant_assets": "assets",
    "build_qdrant_checks": "checks",
    "qdrant_adapter": "adapter",
    "qdrant_assets": "assets",
}

__all__ = [
    "Chunking",
    "Keywords",
    "NamedVector",
    "QdrantCollection",
    "QdrantCollectionsComponent",
    "QdrantConfigurationError",
    "QdrantDltTranslator",
    "QdrantError",
    "QdrantIOManager",
    "QdrantResource",
    "QdrantTerminalError",
    "QdrantTransientError",
    "Rerank",
    "build_qdrant_assets",
    "build_qdrant_checks",
    "qdrant_adapter",
    "qdrant_assets",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
