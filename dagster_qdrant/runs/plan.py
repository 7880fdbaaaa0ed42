"""What the assets of one definition load, and as what."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Union

from dagster import AssetKey, AssetSpec, DagsterInvalidDefinitionError
from dagster_dlt.translator import DagsterDltTranslator

from dagster_qdrant.destination.configuration import (
    DEFAULT_DATASET_SEPARATOR,
    QdrantDestinationConfiguration,
)
from dagster_qdrant.destination.tables.names import dataset_identifier, table_identifier
from dagster_qdrant.destination.tables.resource_tables import named_table
from dagster_qdrant.qdrant.collections import collection_name, why_unfit
from dagster_qdrant.translator import QdrantDltTranslator, QdrantTranslatorData

if TYPE_CHECKING:
    from dagster import AssetDep, AssetsDefinition
    from dlt.extract import DltResource, DltSource

    DltData = Union[DltSource, DltResource, Sequence[DltResource]]
    # What Dagster takes for an asset upstream, or several.
    Dep = Union[AssetKey, AssetSpec, AssetDep, AssetsDefinition, str]
    Deps = Union[Dep, Iterable[Dep], Mapping[str, Union[Dep, Iterable[Dep]]]]


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
        names_source: Whether the source is one that the user named. Resources without a source join
            the pipeline's own, as dlt has it.
        names_pipeline: Whether the pipeline's name is the user's, and not made of other names.
    """

    source: DltSource
    dataset_name: str | None
    pipeline_name: str
    translator: DagsterDltTranslator
    names_source: bool = True
    names_pipeline: bool = True

    @classmethod
    def of(
        cls,
        data: DltData,
        *,
        dataset_name: str | None,
        pipeline_name: str | None,
        name: str | None,
        translator: DagsterDltTranslator | None,
    ) -> QdrantAssetsPlan:
        """The plan of a definition.

        Args:
            data: What is loaded.
            dataset_name: The dataset.
            pipeline_name: The name under which dlt keeps the state, if the user has one.
            name: The name of the op, if the user has one.
            translator: Makes the assets' specs, if the user has one.
        """
        for argument, value in {
            "dataset_name": dataset_name,
            "pipeline_name": pipeline_name,
        }.items():
            if value is not None and not isinstance(value, str):
                raise TypeError(f"`{argument}` is {value!r}; it must be text.")
        source = as_source(data, name or dataset_name)
        return cls(
            source=source,
            dataset_name=dataset_name,
            pipeline_name=pipeline_name or name or join_names(source.name, dataset_name),
            translator=translator or QdrantDltTranslator(),
            names_source=is_source(data),
            names_pipeline=pipeline_name is not None,
        )

    def loading(self, data: DltData) -> QdrantAssetsPlan:
        """The plan with something else to load. Resources without a source join the plan's."""
        source = as_source(data, self.source.name)
        if is_source(data):
            return replace(self, source=source, names_source=True)
        if self.names_source:
            source.schema = self.source.schema.clone()
        return replace(self, source=source)

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


def with_deps(specs: Mapping[str, AssetSpec], deps: Deps | None) -> dict[str, AssetSpec]:
    """Specs with further assets upstream.

    Args:
        specs: The specs by the name of their resource.
        deps: The assets upstream of all of them, or by the name of the resource.

    Raises:
        DagsterInvalidDefinitionError: For a resource that is not loaded.
    """
    if not isinstance(deps, Mapping):
        deps = dict.fromkeys(specs, _listed(deps)) if deps is not None else {}
    if unknown := sorted(deps.keys() - specs.keys()):
        raise DagsterInvalidDefinitionError(
            f"`deps` names the resource `{unknown[0]}`. There are "
            f"{', '.join(f'`{name}`' for name in specs)}."
        )
    return {
        name: spec.merge_attributes(deps=AssetSpec(spec.key, deps=_listed(deps[name])).deps)
        if name in deps
        else spec
        for name, spec in specs.items()
    }


def _listed(deps: Any) -> list[Any]:
    # Dagster's keys and specs are tuples too, of a type of their own.
    several = type(deps) is tuple or isinstance(deps, (list, set, frozenset))
    return list(deps) if several else [deps]


def is_source(data: DltData) -> bool:
    """Whether it is a dlt source, not resources that belong to none."""
    from dlt.extract import DltSource

    return isinstance(data, DltSource)


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
        raise TypeError(_what_to_give(data))
    if not resources:
        raise TypeError("`dlt_source` is an empty list; it must hold at least one dlt resource.")
    return dlt.source(lambda: list(resources), name=source_name_of(name or resources[0].name))()


def _what_to_give(data: Any) -> str:
    """What to give instead of something that is no source."""
    from dlt.extract import DltResource, DltSource, SourceFactory

    rows = "Rows become a resource with `qdrant_adapter(rows, ...)` or `dlt.resource(rows, ...)`."
    if isinstance(data, SourceFactory):
        name = getattr(data, "__name__", "source")
        return f"`dlt_source` is the source function `{name}`. Call it: `{name}()`."
    if callable(data):
        name = getattr(data, "__name__", "it")
        return (
            f"`dlt_source` is the function `{name}`. Decorate it with `@dlt.resource`, or wrap it "
            "with `qdrant_adapter`."
        )
    if not isinstance(data, (list, tuple)):
        return (
            f"`dlt_source` is of type {type(data).__name__}; it must be a dlt source, a dlt "
            f"resource or a list of resources. {rows}"
        )
    other = next(each for each in data if not isinstance(each, DltResource))
    if isinstance(other, DltSource):
        return (
            f"`dlt_source` is a list with the source `{other.name}`; a list holds resources. Give "
            "the source itself, or `list(source.resources.values())`."
        )
    return (
        f"`dlt_source` is a list that holds something of type {type(other).__name__}; it must hold "
        f"dlt resources alone. {rows}"
    )


def default_op_name(source: DltSource, dataset_name: str | None) -> str:
    """A name that differs where the resources or the datasets of definitions do."""
    selected = list(source.selected_resources)
    is_whole = 1 < len(selected) == len(source.resources)
    has_own_name = not dataset_name or source.name != source_name_of(dataset_name)
    names = [source.name] if is_whole and has_own_name else selected
    return join_names(*names, dataset_name)


def disposition_of(write_disposition: Any) -> Any:
    """The write disposition, also where it comes with further settings."""
    has_settings = isinstance(write_disposition, Mapping)
    return write_disposition.get("disposition") if has_settings else write_disposition


def join_names(*names: str | None) -> str:
    """A name made of names, of characters that Dagster and dlt allow, and no longer than a file's.

    Example:
        >>> join_names("Café", None, "films")
        'Caf__films'
    """
    return _cut(re.sub(r"[^A-Za-z0-9_]", "_", "_".join(name for name in names if name)), _LONGEST)


def unique_name(*names: str) -> str:
    """Names joined so that others give another name, whatever characters they are of."""
    joined, plain = join_names(*names), "_".join(names)
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]
    return joined if joined == plain else f"{joined}_{digest}"


def source_name_of(name: str) -> str:
    """A name that dlt takes for a source: one that Python could have for a function."""
    joined = join_names(name)
    return _cut(f"_{joined}" if joined[0].isdigit() else joined, _LONGEST_SOURCE)


def _cut(name: str, longest: int) -> str:
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: longest - len(digest) - 1]}_{digest}"
