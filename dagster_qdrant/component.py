"""`QdrantCollectionsComponent`: the factory of assets as YAML, for `dg`."""

# No `from __future__ import annotations` here: Dagster reads the fields' types.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union

from dagster import (
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    Component,
    ComponentLoadContext,
    Definitions,
    PartitionsDefinition,
    Resolvable,
    Resolver,
    RetryPolicy,
    scaffold_with,
    with_resources,
)
from dagster.components.resolved.core_models import (
    DailyPartitionsDefinitionModel,
    HourlyPartitionsDefinitionModel,
    MultiRunBackfillPolicyModel,
    SingleRunBackfillPolicyModel,
    StaticPartitionsDefinitionModel,
    TimeWindowPartitionsDefinitionModel,
    WeeklyPartitionsDefinitionModel,
    resolve_backfill_policy,
    resolve_partitions_def,
)
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from dagster_dlt.translator import DltResourceTranslatorData
from pydantic import BaseModel

from dagster_qdrant.adapter import qdrant_adapter
from dagster_qdrant.assets import build_qdrant_assets
from dagster_qdrant.resource import DEFAULT_RESOURCE_KEY, QdrantResource
from dagster_qdrant.runs.partition_source import takes_partition
from dagster_qdrant.runs.plan import as_source, is_source, unique_name
from dagster_qdrant.translator import QdrantDltTranslator
from dagster_qdrant.yaml.mistakes import naming_mistakes
from dagster_qdrant.yaml.resolvers import (
    ADAPTER_HINTS,
    ResourceModel,
    RetryPolicyModel,
    made,
    resolve_checks,
    resolve_deps,
    resolve_resource,
    resolve_retry_policy,
    resolve_source,
    unknown_resource,
)
from dagster_qdrant.yaml.scaffolder import LoadScaffolder

if TYPE_CHECKING:
    from dagster_qdrant.runs.plan import DltData

_Columns = Union[str, list[str]]


@dataclass
class QdrantLoad(Resolvable):
    """One dlt source and the dataset that it is loaded into."""

    source: Annotated[
        Any,
        Resolver.from_model(
            resolve_source,
            model_field_type=str,
            description="Dotted path of a dlt source, of resources, or of a function that makes "
            "them, with `partitions_def` also from the key of a partition. '.loads.films' is "
            "`films` in loads.py beside the YAML.",
        ),
    ]
    dataset_name: Annotated[
        Optional[str],
        Resolver.default(description="The dataset, whose name begins the collections' names."),
    ] = None
    embed: Annotated[
        Mapping[str, _Columns],
        Resolver.default(
            description="By resource: the column, or the columns, whose text is embedded."
        ),
    ] = field(default_factory=dict)
    keywords: Annotated[
        Mapping[str, Union[bool, str, Mapping[str, Any]]],
        Resolver.default(
            description="By resource: whether its rows are found by keywords too; true, a "
            "language, or an object with language, columns and avg_len, or columns and model."
        ),
    ] = field(default_factory=dict)
    chunk: Annotated[
        Mapping[str, Union[bool, int, str, Mapping[str, Any]]],
        Resolver.default(
            description="By resource: how its texts are cut into chunks; true, the most tokens of "
            "a chunk, 'markdown', or an object with tokens, overlap, kind and language."
        ),
    ] = field(default_factory=dict)
    index: Annotated[
        Mapping[str, Union[_Columns, Mapping[str, Any]]],
        Resolver.default(
            description="By resource: the columns that searches filter by, or the index of each by "
            "column, a type of Qdrant's or an object with its fields."
        ),
    ] = field(default_factory=dict)
    collection: Annotated[
        Mapping[str, Mapping[str, Any]],
        Resolver.default(
            description="By resource: how its collection is set up, by the names of Qdrant's "
            "create call, and `distance`, `datatype` and `on_disk` of the vector."
        ),
    ] = field(default_factory=dict)
    vectors: Annotated[
        Mapping[str, Mapping[str, Union[_Columns, Mapping[str, Any]]]],
        Resolver.default(
            description="By resource: further vectors by name, the columns of each or an object "
            "with columns, model and Qdrant's settings of a vector."
        ),
    ] = field(default_factory=dict)
    name: Annotated[Optional[str], Resolver.default(description="Name of the op.")] = None
    pipeline_name: Annotated[
        Optional[str], Resolver.default(description="The name under which dlt keeps the state.")
    ] = None
    group_name: Annotated[Optional[str], Resolver.default(description="Group of all assets.")] = (
        None
    )
    deps: Annotated[
        Any,
        Resolver(
            resolve_deps,
            model_field_type=Optional[Union[_Columns, Mapping[str, _Columns]]],
            description="Keys of assets upstream, say raw/films; of all assets, or by resource.",
        ),
    ] = None
    partitions_def: Annotated[
        Optional[PartitionsDefinition],
        Resolver(
            resolve_partitions_def,
            model_field_type=Union[
                HourlyPartitionsDefinitionModel,
                DailyPartitionsDefinitionModel,
                WeeklyPartitionsDefinitionModel,
                TimeWindowPartitionsDefinitionModel,
                StaticPartitionsDefinitionModel,
            ],
            description="Partitions of the assets.",
        ),
    ] = None
    backfill_policy: Annotated[
        Optional[BackfillPolicy],
        Resolver(
            resolve_backfill_policy,
            model_field_type=Union[SingleRunBackfillPolicyModel, MultiRunBackfillPolicyModel],
            description="How a backfill is cut into runs. Default for time windows: one run.",
        ),
    ] = None
    retry_policy: Annotated[
        Optional[RetryPolicy],
        Resolver(
            resolve_retry_policy,
            model_field_type=RetryPolicyModel,
            description="How often, and when, a failed run is retried.",
        ),
    ] = None
    pool: Annotated[Optional[str], Resolver.default(description="Concurrency pool of the op.")] = (
        None
    )
    op_tags: Annotated[
        Optional[Mapping[str, Any]], Resolver.default(description="Tags of the op.")
    ] = None
    workers: Annotated[
        Optional[int],
        Resolver.default(
            description="How many steps of the run load the rows, each a part of them, wherever "
            "the executor runs it. Default: one step does all."
        ),
    ] = None
    worker_tags: Annotated[
        Optional[Mapping[str, Any]],
        Resolver.default(description="Further tags of the steps that load a part."),
    ] = None
    io_manager_key: Annotated[
        str,
        Resolver.default(description="The IO manager that brings parts from step to step."),
    ] = "io_manager"
    checks: Annotated[
        Union[bool, Literal["blocking"]],
        Resolver(
            resolve_checks,
            description="Whether each load is followed by asset checks, or 'blocking'.",
        ),
    ] = False
    translation: Optional[
        Annotated[
            TranslationFn[DltResourceTranslatorData],
            TranslationFnResolver[DltResourceTranslatorData](
                lambda data: {
                    "resource": data.resource,
                    "dataset_name": data.dataset_name,
                    "table_name": data.table_name,
                    "collection": data.collection,
                    "asset_name": data.asset_name,
                }
            ),
        ]
    ] = None


@scaffold_with(LoadScaffolder)
@dataclass
class QdrantCollectionsComponent(Component, Resolvable):
    """Load dlt sources into Qdrant collections; the factory `build_qdrant_assets` as YAML.

    Override `get_asset_spec` in a subclass to change all of its assets.

    For example, in a `defs.yaml`:

        type: dagster_qdrant.QdrantCollectionsComponent
        attributes:
          qdrant:
            location: https://my-cluster.qdrant.io
            api_key: "{{ env.QDRANT_API_KEY }}"
          loads:
            - source: .loads.films
              dataset_name: movies_dataset
              embed:
                films: [title, plot]
              checks: true
              translation:
                group_name: search
    """

    loads: Sequence[QdrantLoad]
    qdrant: Annotated[
        Optional[QdrantResource],
        Resolver(
            resolve_resource,
            model_field_type=ResourceModel,
            description="Fields of QdrantResource, for the loads of this component alone.",
        ),
    ] = None
    resource_key: Annotated[
        Optional[str],
        Resolver.default(
            description="Key of the project's QdrantResource that loads, in place of `qdrant`. "
            "Default: 'qdrant'."
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse two resources."""
        if self.qdrant is not None and self.resource_key is not None:
            raise ValueError(
                "`qdrant` and `resource_key` both name the resource that loads. Keep one of them."
            )

    @classmethod
    def model(cls) -> type[BaseModel]:
        """What the attributes may hold; a mistake is named at its line."""
        return naming_mistakes(super().model())

    def get_asset_spec(self, data: DltResourceTranslatorData) -> AssetSpec:
        """The spec of the asset for one resource, before the load's `translation`."""
        return QdrantDltTranslator().get_asset_spec(data)

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The assets of all loads."""
        if self.qdrant is None:
            key = self.resource_key or DEFAULT_RESOURCE_KEY
            return Definitions(assets=[self._assets(load, key) for load in self.loads])
        # A key of its own: other components, and the project, have theirs.
        place = context.component_path.get_relative_key(context.defs_module_path)
        key = unique_name(DEFAULT_RESOURCE_KEY, place)
        assets = [self._assets(load, key) for load in self.loads]
        return Definitions(assets=with_resources(assets, {key: self.qdrant}))

    def _assets(self, load: QdrantLoad, resource_key: str) -> AssetsDefinition:
        source = load.source
        if takes_partition(source):
            dlt_source: Any = lambda key: self._embedded(load, source(key))  # noqa: E731
        else:
            dlt_source = self._embedded(load, made(source))
        return build_qdrant_assets(
            dlt_source=dlt_source,
            dataset_name=load.dataset_name,
            pipeline_name=load.pipeline_name,
            name=load.name,
            group_name=load.group_name,
            dagster_dlt_translator=_Translator(self, load.translation),
            deps=load.deps,
            partitions_def=load.partitions_def,
            backfill_policy=load.backfill_policy,
            op_tags=load.op_tags,
            pool=load.pool,
            retry_policy=load.retry_policy,
            checks=load.checks,
            workers=load.workers,
            worker_tags=load.worker_tags,
            io_manager_key=load.io_manager_key,
            resource_key=resource_key,
        )

    @staticmethod
    def _embedded(load: QdrantLoad, data: "DltData") -> "DltData":
        """A copy of a source whose columns are marked: it may be another load's too."""
        source = as_source(data, load.name or load.dataset_name).clone()
        said: dict[str, dict[str, Any]] = {}
        for hint in ADAPTER_HINTS:
            for name, value in getattr(load, hint).items():
                if name not in source.resources:
                    raise ValueError(unknown_resource(name, source, hint))
                said.setdefault(name, {})[hint] = value
        for name, hints in said.items():
            qdrant_adapter(source.resources[name], **hints)
        return source if is_source(data) else list(source.resources.values())


class _Translator(QdrantDltTranslator):
    def __init__(
        self,
        component: QdrantCollectionsComponent,
        translation: Optional[TranslationFn[DltResourceTranslatorData]],
    ) -> None:
        self._component = component
        self._translation = translation

    def get_asset_spec(self, data: DltResourceTranslatorData) -> AssetSpec:
        spec = self._component.get_asset_spec(data)
        return self._translation(spec, data) if self._translation else spec
