"""The schema that a pipeline keeps in its working folder from one run to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dlt.common.configuration.container import Container
from dlt.common.pipeline import PipelineContext
from dlt.common.schema import Schema

from dagster_qdrant.destination.tables.hints import without_hints

if TYPE_CHECKING:
    from dlt import Pipeline


def forget_hints() -> None:
    """Take what users say anew with each load out of the schemas that the pipeline keeps.

    A load has a copy of its schema, with its hints, and is resumed from that. Nothing is done while
    something is extracted and not normalized, since that takes its hints from the kept schema.
    """
    context = Container()[PipelineContext]
    if not context.is_active():
        return
    pipeline = cast("Pipeline", context.pipeline())
    if pipeline.list_extracted_load_packages():
        return
    schemas = pipeline.schemas
    for name in schemas.list_schemas():
        schema = schemas[name]
        stored = schema.to_dict(bump_version=False)
        kept = without_hints(stored)
        if kept is not stored:
            # In place: a source that was loaded shares it, and brings it along the next time.
            schema.replace_schema_content(Schema.from_stored_schema(kept))
            schemas.save_schema(schema, link_import_schema=False)
