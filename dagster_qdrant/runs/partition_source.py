"""A function that makes the source of a partition from its key."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dagster import DagsterInvalidDefinitionError, DynamicPartitionsDefinition, PartitionsDefinition

if TYPE_CHECKING:
    from dagster_qdrant.runs.plan import DltData


def takes_partition(data: Any) -> bool:
    """Whether it is a function, or a dlt resource, that has to be called with a partition's key."""
    from dlt.extract import DltResource, DltSource

    if isinstance(data, DltResource):
        return data.requires_args and not data.is_transformer  # which takes its parent's rows
    if isinstance(data, DltSource) or not callable(data):
        return False
    parameters = inspect.signature(data).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        parameter.kind in positional and parameter.default is parameter.empty
        for parameter in parameters
    )


def of_first_partition(
    function: Callable[[str], DltData], partitions_def: PartitionsDefinition | None
) -> DltData:
    """A source to define the assets with: that of the first partition.

    Args:
        function: Makes the source of a partition from its key.
        partitions_def: The assets' partitions.

    Raises:
        DagsterInvalidDefinitionError: If there is no partition to call it with.
    """
    from dlt.extract import DltResource

    if partitions_def is None and isinstance(function, DltResource):
        raise DagsterInvalidDefinitionError(
            f"The resource `{function.name}` needs arguments. Call it with them: "
            f"`{function.name}(...)`. To load a partition by its key, give the assets a "
            "`partitions_def`."
        )
    if partitions_def is None:
        raise DagsterInvalidDefinitionError(
            f"The source is {function!r}, which takes an argument: the key of a partition. Give "
            "the assets a `partitions_def`, or a function without arguments."
        )
    is_dynamic = isinstance(partitions_def, DynamicPartitionsDefinition)
    first = None if is_dynamic else partitions_def.get_first_partition_key()
    if first is None:
        raise DagsterInvalidDefinitionError(
            f"The source is {function!r}, which takes the key of a partition, but {partitions_def} "
            "has none yet, and the assets' names come from a source. Use `@qdrant_assets` with a "
            "source of any key, and give the function to `run`."
        )
    return function(first)
