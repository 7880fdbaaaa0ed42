"""What the assets of one definition load, and as what."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, update_wrapper
from types import FunctionType
from typing import TYPE_CHECKING, Any, Union

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    DagsterInvalidDefinitionError,
    OpDefinition,
)
from dagster_dlt.translator import DagsterDltTranslator

from dagster_qdrant.destination.configuration import (
    DEFAULT_DATASET_SEPARATOR,
    QdrantDestinationConfiguration,
)
from dagster_qdrant.destination.tables.names import dataset_identifier, table_identifier
from dagster_qdrant.destination.tables.resource_tables import named_table
from dagster_qdrant.qdrant.collections import collection_name, why_unfit
from dagster_qdrant.translator import QdrantTranslatorData

if TYPE_CHECKING:
    from dlt.extract import DltResource, DltSource

    DltData = Union[DltSource, DltResource, Sequence[DltResource]]


_LONGEST = 200
_LONGEST_SOURCE = 64  # dlt's limit


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
        """The specs by the name of their resource.

        Raises:
            DagsterInvalidDefinitionError: If two resources would be one asset, or Qdrant allows no
                collection of such a name.
        """
        resources = list(self.source.selected_resources.values())
        tables = Counter(named_table(resource, self.source.schema) for resource in resources)
        specs: dict[str, AssetSpec] = {}
        for resource in resources:
            spec = self.translator.get_asset_spec(self._describe(resource, tables))
            for other, known in specs.items():
                if known.key == spec.key:
                    raise DagsterInvalidDefinitionError(
                        f"The resources `{other}` and `{resource.name}` would both be the asset "
                        f"{spec.key.to_user_string()}. Rename one of them, or give the assets a "
                        "`dagster_dlt_translator` that makes other keys."
                    )
            specs[resource.name] = spec
        return specs

    def keys(self) -> dict[str, AssetKey]:
        """The keys of the assets by the name of their resource."""
        return {name: spec.key for name, spec in self.specs().items()}

    def dataset(self, config: QdrantDestinationConfiguration | None = None) -> str | None:
        """The dataset's name as it stands in the collections' names.

        Args:
            config: The destination's options; they may leave the name as it was typed.
        """
        if not self.dataset_name or (config and not config.enable_dataset_name_normalization):
            return self.dataset_name
        return dataset_identifier(self.source.schema, self.dataset_name)

    def _describe(
        self, resource: DltResource, tables: Mapping[str | None, int]
    ) -> QdrantTranslatorData:
        schema, dataset = self.source.schema, self.dataset()
        table = named_table(resource, schema)
        collection = table and collection_name(dataset, DEFAULT_DATASET_SEPARATOR, table)
        if collection and (reason := why_unfit(collection)):
            raise DagsterInvalidDefinitionError(f"Resource `{resource.name}`: {reason}")
        own_table = tables[table] == 1 and table
        return QdrantTranslatorData(
            resource=resource,
            dataset_name=self.dataset_name,
            table_name=table,
            collection=collection,
            asset_name=own_table or table_identifier(schema, resource.name),
        )


@dataclass(frozen=True)
class _Definition:
    """What a definition of assets or of checks was made for.

    Args:
        plan: What its assets load.
        keys: The keys of the assets when it was made, by the name of their resource.
        outputs: The same keys by the name of the output of the asset, or of a check of it.
    """

    plan: QdrantAssetsPlan
    keys: Mapping[str, AssetKey]
    outputs: Mapping[str, AssetKey]


# The op's function carries it: Dagster hands the function on to each copy of a definition, and
# outputs keep their names. Metadata is no place for live objects: the UI shows it.
_DEFINITION = "qdrant_definition"


def own_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for one definition: it may be the body of others too."""
    if not isinstance(function, FunctionType):
        return partial(function)
    own = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    own.__kwdefaults__ = function.__kwdefaults__
    return update_wrapper(own, function)


def keep_plan(
    definition: AssetsDefinition, plan: QdrantAssetsPlan, keys: Mapping[str, AssetKey]
) -> None:
    """Remember what the assets of a definition load, or what its checks check.

    Args:
        definition: The definition, over a function that no other has.
        plan: What the assets load.
        keys: The keys of the assets by the name of their resource.
    """
    outputs = _asset_keys(definition)
    vars(_function(definition))[_DEFINITION] = _Definition(plan, keys, outputs)


def plan_of(definition: AssetsDefinition) -> QdrantAssetsPlan | None:
    """The plan of a definition of ours, also of a copy of it; None for any other."""
    kept = _kept(definition)
    return kept.plan if kept else None


def keys_of(definition: AssetsDefinition, plan: QdrantAssetsPlan) -> dict[str, AssetKey]:
    """The keys of a definition's assets by the name of their resource.

    Args:
        definition: The definition as it is now. A copy may have other keys than it was made with.
        plan: What is loaded, perhaps not what the definition was made with.
    """
    kept = _kept(definition)
    if kept is None:
        return plan.keys()
    now = {
        kept.outputs[output]: key
        for output, key in _asset_keys(definition).items()
        if output in kept.outputs
    }
    keys = {name: kept.keys.get(name, key) for name, key in plan.keys().items()}
    return {name: now.get(key, key) for name, key in keys.items()}


def _kept(definition: AssetsDefinition) -> _Definition | None:
    if not definition.is_executable or not isinstance(definition.node_def, OpDefinition):
        return None
    return getattr(_function(definition), _DEFINITION, None)


def _function(definition: AssetsDefinition) -> Any:
    compute: Any = definition.op.compute_fn
    return getattr(compute, "decorated_fn", compute)


def _asset_keys(definition: AssetsDefinition) -> dict[str, AssetKey]:
    """The asset of each output, which is the asset itself or a check of it."""
    return {
        output: key.asset_key if isinstance(key, AssetCheckKey) else key
        for output, key in definition.entity_keys_by_output_name.items()
    }


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
    return dlt.source(lambda: list(resources), name=_source_name(name or resources[0].name))()


def default_op_name(source: DltSource, dataset_name: str | None) -> str:
    """A name that differs where the resources or the datasets of definitions do."""
    selected = list(source.selected_resources)
    is_whole = 1 < len(selected) == len(source.resources)
    has_own_name = not dataset_name or source.name != _source_name(dataset_name)
    names = [source.name] if is_whole and has_own_name else selected
    return join_names(*names, dataset_name)


def join_names(*names: str | None) -> str:
    """A name made of names, of characters that Dagster and dlt allow, and no longer than a file's.

    Example:
        >>> join_names("Café", None, "films")
        'Caf__films'
    """
    return _cut(re.sub(r"[^A-Za-z0-9_]", "_", "_".join(name for name in names if name)), _LONGEST)


def _source_name(name: str) -> str:
    """A name that dlt takes for a source: one that Python could have for a function."""
    joined = join_names(name)
    return _cut(f"_{joined}" if joined[0].isdigit() else joined, _LONGEST_SOURCE)


def _cut(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: longest - len(digest) - 1]}_{digest}"
