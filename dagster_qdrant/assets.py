"""dlt source -> multi-asset: `@qdrant_assets` and `build_qdrant_assets`."""

# No `from __future__ import annotations` here: Dagster refuses a context so annotated.

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union
from weakref import WeakKeyDictionary

from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    DagsterInvariantViolationError,
    HookDefinition,
    MaterializeResult,
    OpDefinition,
    PartitionsDefinition,
    RetryPolicy,
    TimeWindowPartitionsDefinition,
    multi_asset,
)
from dagster_dlt.translator import DagsterDltTranslator

from dagster_qdrant.checks import check_specs, refuse_unknown_checks
from dagster_qdrant.resource import QdrantResource
from dagster_qdrant.translator import QdrantDltTranslator, QdrantTranslatorData, embedded_columns

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

    source: "DltSource"
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

    def check_specs(self, *, blocking: bool) -> list[AssetCheckSpec]:
        """The specs of the assets' checks."""
        resources = self.source.resources
        return check_specs(
            {key: bool(embedded_columns(resources[name])) for name, key in self.keys().items()},
            blocking=blocking,
        )

    @property
    def normalized_dataset_name(self) -> str | None:
        """The dataset's name as it stands in the collections' names."""
        normalize = self.source.schema.naming.normalize_table_identifier
        return normalize(self.dataset_name) if self.dataset_name else None

    def table_name(self, resource: "DltResource") -> str:
        """The table of a resource, as dlt will name it."""
        named = resource.table_name
        name = resource.name if callable(named) else str(named)
        return self.source.schema.naming.normalize_table_identifier(name)

    def _describe(self, resource: "DltResource") -> QdrantTranslatorData:
        from dagster_qdrant.destination.collections import collection_name
        from dagster_qdrant.destination.configuration import DEFAULT_DATASET_SEPARATOR

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


def plan_of(assets_def: AssetsDefinition) -> QdrantAssetsPlan | None:
    """The plan of an assets definition that this module made, or None for any other."""
    return _plans.get(assets_def.op)


def qdrant_assets(
    *,
    dlt_source: "DltData",
    dataset_name: str | None = None,
    pipeline_name: str | None = None,
    name: str | None = None,
    group_name: str | None = None,
    dagster_dlt_translator: DagsterDltTranslator | None = None,
    partitions_def: PartitionsDefinition | None = None,
    backfill_policy: BackfillPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    hooks: Set[HookDefinition] | None = None,
    pool: str | None = None,
    retry_policy: RetryPolicy | None = None,
    checks: bool | Literal["blocking"] = False,
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """Decorator that makes one asset of each resource of a dlt source.

    No credentials are needed and nothing is connected to until a run starts.

    Args:
        dlt_source: A dlt source, a resource, or a list of resources.
        dataset_name: The dataset; its name stands before the tables' in the collections' names.
        pipeline_name: The name under which dlt keeps the state of incremental resources. Default:
            `name`, else the source's and the dataset's name.
        name: Name of the op. Default: the function's.
        group_name: Group of all assets.
        dagster_dlt_translator: Makes the assets' specs. Default: `QdrantDltTranslator`.
        partitions_def: Partitions of the assets.
        backfill_policy: How a backfill is cut into runs. Default for time windows: one run.
        op_tags: Tags of the op.
        hooks: Hooks of the op.
        pool: Concurrency pool of the op.
        retry_policy: What happens when a run fails in passing.
        checks: Whether each load is followed by asset checks of its collections. "blocking": a
            check that fails keeps assets downstream from being materialized.

    Returns:
        A decorator for a function that runs the load.

    Raises:
        TypeError: If `dlt_source` is none of these.
        ValueError: If `checks` is something else.
        DagsterInvariantViolationError: If `group_name` is given and the translator sets groups.

    Example:
        >>> @qdrant_assets(
        ...     dlt_source=qdrant_adapter(movies, embed="title"), dataset_name="movies_dataset"
        ... )
        ... def movie_assets(context: AssetExecutionContext, qdrant: QdrantResource):
        ...     yield from qdrant.run(context)
    """
    refuse_unknown_checks(checks)
    source = as_source(dlt_source, name or dataset_name)
    plan = QdrantAssetsPlan(
        source=source,
        dataset_name=dataset_name,
        pipeline_name=pipeline_name or name or _join(source.name, dataset_name),
        translator=dagster_dlt_translator or QdrantDltTranslator(),
    )
    specs = list(plan.specs().values())
    if group_name and any(spec.group_name for spec in specs):
        raise DagsterInvariantViolationError(
            f"`group_name` is {group_name!r}, but the translator sets groups too. Set the group in "
            "one of the two places."
        )
    if isinstance(partitions_def, TimeWindowPartitionsDefinition) and backfill_policy is None:
        backfill_policy = BackfillPolicy.single_run()

    def decorate(function: Callable[..., Any]) -> AssetsDefinition:
        assets_def = multi_asset(
            name=name,
            group_name=group_name,
            can_subset=True,
            partitions_def=partitions_def,
            backfill_policy=backfill_policy,
            op_tags=op_tags,
            hooks=hooks,
            specs=specs,
            pool=pool,
            retry_policy=retry_policy,
            check_specs=plan.check_specs(blocking=checks == "blocking") if checks else None,
        )(function)
        _plans[assets_def.op] = plan
        return assets_def

    return decorate


def build_qdrant_assets(
    *,
    dlt_source: "DltData",
    dataset_name: str | None = None,
    pipeline_name: str | None = None,
    name: str | None = None,
    group_name: str | None = None,
    dagster_dlt_translator: DagsterDltTranslator | None = None,
    partitions_def: PartitionsDefinition | None = None,
    backfill_policy: BackfillPolicy | None = None,
    op_tags: Mapping[str, Any] | None = None,
    hooks: Set[HookDefinition] | None = None,
    pool: str | None = None,
    retry_policy: RetryPolicy | None = None,
    checks: bool | Literal["blocking"] = False,
) -> AssetsDefinition:
    """Make one asset of each resource of a dlt source, without a function of one's own.

    The same as `@qdrant_assets`, whose arguments it takes, over `yield from qdrant.run(context)`.
    The resource is bound under the key "qdrant".

    Example:
        >>> movies = build_qdrant_assets(
        ...     dlt_source=qdrant_adapter(movies, embed="title"), dataset_name="movies_dataset"
        ... )
        >>> Definitions(assets=[movies], resources={"qdrant": QdrantResource(path="data")})
    """
    source = as_source(dlt_source, name or dataset_name)

    @qdrant_assets(
        dlt_source=source,
        dataset_name=dataset_name,
        pipeline_name=pipeline_name or name or _join(source.name, dataset_name),
        name=name or _join(source.name, dataset_name),
        group_name=group_name,
        dagster_dlt_translator=dagster_dlt_translator,
        partitions_def=partitions_def,
        backfill_policy=backfill_policy,
        op_tags=op_tags,
        hooks=hooks,
        pool=pool,
        retry_policy=retry_policy,
        checks=checks,
    )
    def assets(
        context: AssetExecutionContext, qdrant: QdrantResource
    ) -> Iterator[Union[MaterializeResult[Any], AssetCheckResult]]:
        yield from qdrant.run(context)

    return assets


def as_source(data: "DltData", name: str | None) -> "DltSource":
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
    return dlt.source(lambda: list(resources), name=_join(name or resources[0].name))()


def _join(*names: str | None) -> str:
    """A name made of names, of characters that Dagster and dlt allow."""
    return re.sub(r"[^A-Za-z0-9_]", "_", "_".join(name for name in names if name))
