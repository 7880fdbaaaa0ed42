"""What the assets of one definition load, and as what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union
from weakref import WeakKeyDictionary

from dagster import AssetKey, AssetsDefinition, AssetSpec, OpDefinition
from dagster_dlt.translator import DagsterDltTranslator

from dagster_qdrant.destination.configuration import DEFAULT_DATASET_SEPARATOR
from dagster_qdrant.qdrant.collections import collection_name
from dagster_qdrant.translator import QdrantTranslatorData

if TYPE_CHECKING:
    from dlt.extract import DltResource, DltSource

    DltData = Union[DltSource, DltResource, Sequence[DltResource]]


@dataclass(frozen=True)
class QdrantAssetsPlan:
    """What the assets of one definition load, and as what.

    Args:
        source: The dlt source.
        dataset_name: The dataset, or None for collections named after their tables.
        pipeline_name: The name under which dlt keeps the state.
        translator: Makes the assets' specs.
    """

    source: DltSource
    dataset_name: str | None
    pipeline_name: str
    translator: DagsterDltTranslator

    def specs(self) -> dict[str, AssetSpec]:
        """The specs by the name of their resource."""
        return {
            resource.name: self.translator.get_asset_spec(self._describe(resource))
            for resource in self.source.selected_resources.values()
        }

    def keys(self) -> dict[str, AssetKey]:
        """The keys of the assets by the name of their resource."""
        return {name: spec.key for name, spec in self.specs().items()}

    @property
    def normalized_dataset_name(self) -> str | None:
        """The dataset's name as it stands in the collections' names."""
        normalize = self.source.schema.naming.normalize_table_identifier
        return normalize(self.dataset_name) if self.dataset_name else None

    def table_name(self, resource: DltResource) -> str:
        """The table of a resource, as dlt will name it."""
        named = resource.table_name
        name = resource.name if callable(named) else str(named)
        return self.source.schema.naming.normalize_table_identifier(name)

    def _describe(self, resource: DltResource) -> QdrantTranslatorData:
        table = self.table_name(resource)
        return QdrantTranslatorData(
            resource=resource,
            dataset_name=self.dataset_name,
            table_name=table,
            collection=collection_name(
                self.normalized_dataset_name, DEFAULT_DATASET_SEPARATOR, table
            ),
        )


# Live objects do not belong into an asset's metadata, which the UI shows.
_plans: WeakKeyDictionary[OpDefinition, QdrantAssetsPlan] = WeakKeyDictionary()


def keep_plan(assets_def: AssetsDefinition, plan: QdrantAssetsPlan) -> None:
    """Remember what the assets of a definition load."""
    _plans[assets_def.op] = plan


def plan_of(assets_def: AssetsDefinition) -> QdrantAssetsPlan | None:
    """The plan of an assets definition of ours, or None for any other."""
    return _plans.get(assets_def.op)


def as_source(data: DltData, name: str | None) -> DltSource:
    """A dlt source for whatever may stand for one.

    Raises:
        TypeError: If it is something else, or empty.
    """
    import dlt
    from dlt.extract import DltResource, DltSource

    if isinstance(data, DltSource):
        return data
    resources = [data] if isinstance(data, DltResource) else data
    if not isinstance(resources, Sequence) or not all(
        isinstance(resource, DltResource) for resource in resources
    ):
        raise TypeError(
            f"`dlt_source` is a {type(data).__name__}; it must be a dlt source, a dlt resource or "
            "a list of resources. (A function decorated with @dlt.source or @dlt.resource has to "
            "be called; plain data becomes a resource with `qdrant_adapter` or `dlt.resource`.)"
        )
    if not resources:
        raise TypeError("`dlt_source` is an empty list; it must hold at least one dlt resource.")
    return dlt.source(lambda: list(resources), name=join_names(name or resources[0].name))()


def join_names(*names: str | None) -> str:
    """A name made of names, of characters that Dagster and dlt allow."""
    return re.sub(r"[^A-Za-z0-9_]", "_", "_".join(name for name in names if name))
