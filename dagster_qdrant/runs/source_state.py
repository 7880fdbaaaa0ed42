"""Where a load goes on: under which names dlt keeps the state of what is loaded.

dlt keeps the state of a resource (its incremental cursor, say) under the names of the pipeline and
of the source. Under other names a resource begins anew, and one that appends brings all of its rows
a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dlt.common.json import json
from dlt.common.schema import Schema
from dlt.common.versioned_state import decompress_state
from dlt.extract.utils import make_schema_with_default_name

from dagster_qdrant.destination.loads.dlt_tables import DltTables
from dagster_qdrant.errors import QdrantConfigurationError
from dagster_qdrant.runs.plan import QdrantAssetsPlan, disposition_of, source_name_of

if TYPE_CHECKING:
    from dlt import Pipeline
    from dlt.extract import DltResource, DltSource


class SourceState:
    """The state of a source in a pipeline that is synchronized with its destination.

    Args:
        pipeline: The pipeline.
        plan: What is loaded.
        dlt_tables: dlt's own tables in the dataset.
    """

    def __init__(self, pipeline: Pipeline, plan: QdrantAssetsPlan, dlt_tables: DltTables) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._dlt_tables = dlt_tables

    def join_pipeline(self, source: DltSource) -> None:
        """Have resources that belong to no source join the pipeline's own, as dlt has it.

        Where another source of the pipeline holds their state, they join that one: nobody named
        their source, and each source that they may have been loaded with is as good.

        Args:
            source: The source to load, which changes.
        """
        if self._plan.names_source:
            return
        pipeline = self._pipeline
        name = pipeline.default_schema_name
        name = name or source_name_of(make_schema_with_default_name(pipeline.pipeline_name))
        holders = {
            holder
            for holder, resources in self._stateful(pipeline.state).items()
            if not resources.isdisjoint(each.name for each in source.resources.extracted)
        }
        if len(holders) == 1:
            [name] = holders
        schema = Schema(name)
        if name in pipeline.schemas:
            schema = pipeline.schemas[name].clone(with_name=name)
            schema.drop_tables(schema.data_table_names(include_incomplete=True))
        source.schema = schema
        source.resources.source_name = name
        for resource in source.resources.extracted:
            resource.source_name = name

    def refuse_loss(self, source: DltSource, write_disposition: Any) -> None:
        """Refuse to append again what was loaded under other names.

        Args:
            source: The source to load.
            write_disposition: What the run asks for, in place of the resources' own.

        Raises:
            QdrantConfigurationError: With the names under which the state is.
        """
        known = self._stateful(self._pipeline.state)
        begun = known.pop(source.name, set()) | self._loaded(source)
        new = {
            resource.name: names
            for resource in source.selected_resources.values()
            if begun.isdisjoint(names := _with_parents(resource))
            and _may_append(resource, write_disposition)
        }
        if not new:
            return
        for name, names in new.items():
            for holder, resources in known.items():
                if not resources.isdisjoint(names):
                    raise QdrantConfigurationError(self._in_another_source(name, holder, source))
        if self._plan.names_pipeline:
            return  # The user says which pipeline it is.
        for pipeline_name, stateful in self._other_pipelines():
            for name, names in new.items():
                if not stateful.isdisjoint(names):
                    raise QdrantConfigurationError(self._in_another_pipeline(name, pipeline_name))

    def _loaded(self, source: DltSource) -> set[str]:
        """The resources of a source that the pipeline has loaded before."""
        schemas = self._pipeline.schemas
        return _resources_of(schemas[source.name]) if source.name in schemas else set()

    def _other_pipelines(self) -> Iterator[tuple[str, set[str]]]:
        """The other pipelines that have loaded into the dataset, with resources that have state."""
        states, own = self._dlt_tables.states, self._pipeline.pipeline_name
        for name in sorted(states.pipeline_names() - {own}):
            newest = states.newest(name)
            if newest is not None:
                yield name, set().union(*self._stateful(decompress_state(newest.state)).values())

    def _stateful(self, state: Mapping[str, Any]) -> dict[str, set[str]]:
        """The resources that have some state, by the name of their source."""
        stateful: dict[str, set[str]] = {}
        for source, kept in (state.get("sources") or {}).items():
            resources = {name for name, of_one in kept.get("resources", {}).items() if of_one}
            if any(value for key, value in kept.items() if key != "resources"):
                # State of the whole source, which any of its resources may go by.
                resources |= self._resources_of_source(source)
            stateful[source] = resources
        return stateful

    def _resources_of_source(self, name: str) -> set[str]:
        """The resources that were loaded from a source of a name, by this pipeline or another."""
        if name in self._pipeline.schemas:
            return _resources_of(self._pipeline.schemas[name])
        stored = self._dlt_tables.schemas.newest(name)
        if stored is None:
            return set()
        return _resources_of(Schema.from_stored_schema(json.loads(stored.schema)))

    def _in_another_source(self, name: str, holder: str, source: DltSource) -> str:
        return (
            f"Resource `{name}` appends. Pipeline `{self._pipeline.pipeline_name}` has loaded it "
            f"from source `{holder}` so far and keeps its state there. From source "
            f"`{source.name}` it would load everything again, and append it a second time. Name "
            f"the source `{holder}` to go on, or set a `pipeline_name` that is new to load "
            "everything from the start beside it."
        )

    def _in_another_pipeline(self, name: str, pipeline_name: str) -> str:
        own = self._pipeline.pipeline_name
        return (
            f"Resource `{name}` appends. Pipeline `{pipeline_name}` has loaded it into this "
            f"dataset so far and keeps its state. Pipeline `{own}`, which is this load's default "
            "name, would load everything again, and append it a second time. Set "
            f"`pipeline_name={pipeline_name!r}` to go on, or `pipeline_name={own!r}` to load "
            "everything from the start beside it."
        )


def _resources_of(schema: Schema) -> set[str]:
    """The resources that have filled tables of a schema."""
    return {str(table["resource"]) for table in schema.tables.values() if table.get("resource")}


def _with_parents(resource: DltResource) -> set[str]:
    """A resource's name, and of a transformer those of the resources that it reads."""
    names, pipe = set(), resource._pipe  # dlt has no public way to them
    while pipe is not None:
        names.add(pipe.name)
        pipe = pipe.parent
    return names


def _may_append(resource: DltResource, write_disposition: Any) -> bool:
    disposition = disposition_of(write_disposition or resource.write_disposition)
    return disposition == "append" or callable(disposition)
