"""dlt resource -> AssetSpec."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster import AssetKey, AssetSpec
from dagster_dlt.translator import DagsterDltTranslator, DltResourceTranslatorData
from dlt.common.schema.utils import get_columns_names_with_prop

from dagster_qdrant.destination.tables.hints import (
    chunking_of,
    embedded_columns,
    embedded_lists,
    indexes_of,
    keywords_of,
    settings_of_collection,
    vectors_of,
)

if TYPE_CHECKING:
    from dlt.common.destination import Destination
    from dlt.extract import DltResource


class QdrantTranslatorData(DltResourceTranslatorData):
    """What a translator gets to see: dagster-dlt's data, and where the rows will go.

    There is no dlt pipeline while a code location loads, so `pipeline` is None; `destination` is
    this package's, so that translators written for dagster-dlt find what they look for.
    """

    def __new__(
        cls,
        resource: DltResource,
        dataset_name: str | None,
        table_name: str | None,
        collection: str | None,
        asset_name: str,
    ) -> QdrantTranslatorData:
        """Keep what dagster-dlt's record has no field for beside its fields."""
        make: Any = super().__new__  # dagster's record decorator makes it
        data: QdrantTranslatorData = make(cls, resource=resource, pipeline=None)
        vars(data).update(
            dataset_name=dataset_name,
            table_name=table_name,
            collection=collection,
            asset_name=asset_name,
        )
        return data

    if TYPE_CHECKING:
        dataset_name: str | None
        # The table that the resource names, and its collection; None if its rows name theirs.
        table_name: str | None
        collection: str | None
        # The table's name, or the resource's if it names no table or one that others fill too.
        asset_name: str

    @property
    def destination(self) -> Destination[Any, Any]:
        """The Qdrant destination, without any options."""
        from dagster_qdrant.destination import qdrant

        return qdrant()


@dataclass
class QdrantDltTranslator(DagsterDltTranslator):
    """Names assets after their collections. Override `get_asset_spec` to change anything.

    Examples:
        >>> class InGroup(QdrantDltTranslator):
        ...     def get_asset_spec(self, data):
        ...         spec = super().get_asset_spec(data)
        ...         return spec.replace_attributes(group_name="search", owners=["team:search"])
    """

    def get_asset_spec(self, data: DltResourceTranslatorData) -> AssetSpec:
        """The spec of the asset for one resource.

        Args:
            data: The resource and, as a `QdrantTranslatorData`, where its rows will go.

        Returns:
            A spec with the key `[dataset_name, table]` (the resource's name stands for the table
            if it fills several, or one that others fill too), the kinds "dlt" and "qdrant", the
            collection as its table name, and a code version that changes with the embedded
            columns, the primary key, the write disposition, and the model if dlt's configuration
            names one.
        """
        spec = super().get_asset_spec(data)
        if not isinstance(data, QdrantTranslatorData):
            return spec
        hints = _hints(data.resource)
        metadata = {**spec.metadata, "dagster/table_name": data.collection, **hints}
        if not data.collection:  # dagster-dlt has the resource's name there
            del metadata["dagster/table_name"]
        return spec.replace_attributes(
            key=AssetKey(
                [_key_part(part) for part in (data.dataset_name, data.asset_name) if part]
            ),
            # dagster-dlt adds an upstream asset for the source, which nobody can materialize.
            deps=[],
            kinds={"dlt", "qdrant"},
            description=spec.description or _docstring(data.resource),
            code_version=spec.code_version or _code_version(hints),
            metadata=metadata,
        )


def _key_part(name: str) -> str:
    """A name as a part of an asset key: without characters that Dagster refuses in an output's."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _hints(resource: DltResource) -> dict[str, str]:
    """What the hints of a resource ask for; without those that depend on its rows."""
    hints = {"embed": ", ".join(embedded_columns(resource))}
    for name, columns in embedded_lists(resource).items():
        hints[f"embed_{name}"] = ", ".join(columns)
    if keywords := keywords_of(resource):
        hints["keywords"] = json.dumps(keywords.to_json(), sort_keys=True)
    if chunking := chunking_of(resource):
        hints["chunk"] = json.dumps(chunking.to_json(), sort_keys=True)
    if index := indexes_of(resource):
        hints["index"] = json.dumps(index, sort_keys=True)
    if settings := settings_of_collection(resource):
        hints["collection"] = json.dumps(settings, sort_keys=True)
    if vectors := vectors_of(resource):
        said = {name: vector.to_json() for name, vector in vectors.items()}
        hints["vectors"] = json.dumps(said, sort_keys=True)
    if isinstance(resource.write_disposition, str):
        hints["write_disposition"] = resource.write_disposition
    if not resource.has_dynamic_table_name and not resource.has_other_dynamic_hints:
        table = resource.compute_table_schema()
        key = get_columns_names_with_prop(table, "primary_key", include_incomplete=True)
        hints["primary_key"] = ", ".join(sorted(key))
        hints["write_disposition"] = str(table.get("write_disposition") or "")
    return {name: value for name, value in hints.items() if value}


def _code_version(hints: Mapping[str, str]) -> str:
    """A version that changes with what decides how rows become points.

    `QdrantResource` is not known while a code location loads, so its `model` and `passage_prefix`
    have no part in this.
    """
    import dlt

    says: list[Any] = [hints, dlt.config.get("destination.qdrant.model", str)]
    prefix = dlt.config.get("destination.qdrant.passage_prefix", str)
    if prefix is not None:
        says.append(prefix)
    return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()[:12]


def _docstring(resource: DltResource) -> str | None:
    """The docstring of the resource's function, also when the resource has further steps."""
    function = resource._pipe.gen  # dlt has no public way to it; dagster-dlt reads the same
    return inspect.getdoc(function) if inspect.isfunction(function) else None
