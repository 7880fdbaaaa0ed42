"""Values of a YAML file as the objects that they stand for."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Optional, Union

from dagster import (
    AssetKey,
    Backoff,
    ComponentLoadContext,
    EnvVar,
    Jitter,
    ResolutionContext,
    RetryPolicy,
)
from dagster.components.resolved.errors import ResolutionException
from pydantic import BaseModel, ConfigDict, Field, create_model

from dagster_qdrant.adapter import qdrant_adapter
from dagster_qdrant.errors import QdrantConfigurationError
from dagster_qdrant.resource import QdrantResource
from dagster_qdrant.runs.checking import refuse_unknown_checks
from dagster_qdrant.runs.options import SECRETS
from dagster_qdrant.runs.partition_source import takes_partition
from dagster_qdrant.runs.plan import as_source

if TYPE_CHECKING:
    from dlt.extract import DltSource

# The fields of `QdrantResource`, so that `dg check yaml` knows them. Each may be a template.
ResourceModel: type[BaseModel] = create_model(  # type: ignore[call-overload]
    "QdrantResourceModel",
    __config__=ConfigDict(extra="forbid"),
    **{
        name: (Union[info.annotation, str], Field(default=None, description=info.description))
        for name, info in QdrantResource.model_fields.items()
    },
)

# What a load says of its resources, by their names, as arguments of `qdrant_adapter`.
ADAPTER_HINTS = ("embed", "keywords", "chunk", "index", "collection", "vectors")


class RetryPolicyModel(BaseModel):
    """Arguments of Dagster's `RetryPolicy`."""

    model_config = ConfigDict(extra="forbid")

    max_retries: Union[int, str] = Field(default=1, description="Default: 1.")
    delay: Optional[Union[float, str]] = Field(
        default=None, description="Seconds before a retry. Default: none."
    )
    backoff: Optional[Literal["linear", "exponential"]] = Field(
        default=None, description="How the delay grows."
    )
    jitter: Optional[Literal["full", "plus_minus"]] = Field(
        default=None, description="How the delay is randomized."
    )


_ENVIRONMENT_VARIABLE = re.compile(r"""\{\{\s*env(?:\.(\w+)|\(\s*['"](\w+)['"]\s*\))\s*\}\}""")


def resolve_resource(context: ResolutionContext, model: Optional[BaseModel]) -> Any:
    """A `QdrantResource` of its fields."""
    if model is None:
        return None
    given = model.model_dump(exclude_unset=True)
    keys = {name: key for name in SECRETS if (key := given.pop(name, None)) is not None}
    options: dict[str, Any] = dict(context.resolve_value(given))
    for name, key in keys.items():
        # A template's value would be stored with the code location, and shown in the UI.
        variable = _ENVIRONMENT_VARIABLE.fullmatch(key.strip())
        if variable is None:
            raise ResolutionException(  # without the lines of the YAML, which hold the key
                f"{_place(context)}: `{name}` must name an environment variable, so that the key "
                f'is not stored with the definitions: "{{{{ env.{SECRETS[name]} }}}}".'
            )
        options[name] = EnvVar(variable[1] or variable[2])
    try:
        return QdrantResource(**options)
    except QdrantConfigurationError as error:
        # Without the lines of the YAML, and without a cause that says the same.
        raise ResolutionException(
            f"{_place(_at_named(context, options, error))}: {error}"
        ) from None


def _at_named(
    context: ResolutionContext, names: Iterable[str], error: Exception
) -> ResolutionContext:
    """The place of the first name that an error tells of."""
    words = str(error)
    told = [name for name in names if f"`{name}`" in words]
    if not told:
        return context
    first: ResolutionContext = context.at_path(min(told, key=lambda name: words.index(f"`{name}`")))
    return first


def _place(context: ResolutionContext) -> str:
    if context.source_position_tree is None:
        return "attributes"
    source = context.source_position_tree.source_error(
        yaml_path=context.path, inline_error_message="", value_error=True
    )
    return f"{source.file_name}:{source.start_line_no} - {source.location}"


def resolve_checks(context: ResolutionContext, value: Any) -> Any:
    """What `checks` may be."""
    checks = context.resolve_value(value)
    refuse_unknown_checks(checks)
    return checks


def resolve_deps(context: ResolutionContext, value: Any) -> Any:
    """Assets upstream, of their keys as text."""
    deps = context.resolve_value(value)
    if isinstance(deps, Mapping):
        return {name: _asset_keys(keys) for name, keys in deps.items()}
    return None if deps is None else _asset_keys(deps)


def _asset_keys(keys: Union[str, Sequence[str]]) -> list[AssetKey]:
    listed = [keys] if isinstance(keys, str) else keys
    return [AssetKey.from_user_string(key) for key in listed]


def resolve_retry_policy(
    context: ResolutionContext, model: Optional[RetryPolicyModel]
) -> Optional[RetryPolicy]:
    """Dagster's policy of its arguments."""
    if model is None:
        return None
    given = dict(context.resolve_value(model.model_dump(exclude_unset=True)))
    for name, kind in (("backoff", Backoff), ("jitter", Jitter)):
        if given.get(name):
            given[name] = kind[given[name].upper()]
    return RetryPolicy(**given)


def resolve_source(context: ResolutionContext, model: Any) -> Any:
    """What a load names, if it is a source, with the resources that `embed` and so on name."""
    at_source = context.at_path("source")
    data = at_source.resolve_value(model.source)
    if isinstance(data, str):
        try:
            data = _import(context, data)
        except (ImportError, AttributeError, ValueError) as error:
            _fail(at_source, f"`source` is {data!r}, which cannot be imported: {error}.", model)
    if takes_partition(data):
        if model.partitions_def is None:
            message = f"`source` is {data!r}, which takes the key of a partition."
            _fail(at_source, f"{message} Set `partitions_def`, or let it take nothing.", model)
        return data
    try:
        data = made(data)
        source = as_source(data, None)
    except TypeError as error:
        _fail(at_source, str(error).replace("`dlt_source`", "`source`"), model)
    said: dict[str, dict[str, Any]] = {}
    for hint in ADAPTER_HINTS:
        by_resource = context.at_path(hint).resolve_value(getattr(model, hint))
        for name in by_resource if isinstance(by_resource, Mapping) else ():
            if name not in source.resources:
                message = unknown_resource(name, source, hint)
                _fail(context.at_path(hint).at_path(name), message, model)
            said.setdefault(name, {})[hint] = by_resource[name]
    trial = source.clone()
    for name, hints in said.items():
        try:
            qdrant_adapter(trial.resources[name], **hints)
        except (ValueError, TypeError) as error:
            at_hint = _at_named(context, hints, error)
            place = at_hint if at_hint is not context else context.at_path(next(iter(hints)))
            _fail(place.at_path(name), str(error), model)
    return data


def _import(context: ResolutionContext, path: str) -> Any:
    """The object at a dotted path; one that begins with a dot is looked up beside the YAML."""
    load_context = ComponentLoadContext.from_resolution_context(context)
    if path.startswith("."):
        path = f"{load_context.defs_relative_module_name(load_context.path)}{path}"
    module_name, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module_name), name)


def made(data: Any) -> Any:
    """What a function makes, or what it is."""
    from dlt.extract import DltResource, DltSource

    is_function = callable(data) and not isinstance(data, (DltResource, DltSource))
    return data() if is_function else data


def unknown_resource(name: str, source: DltSource, hint: str) -> str:
    """What to say of a resource in `embed` and the like that a source does not have."""
    known = ", ".join(f"`{known}`" for known in source.resources)
    return f"`{hint}` names the resource `{name}`, which the source does not have. It has {known}."


def _fail(context: ResolutionContext, message: str, model: BaseModel) -> NoReturn:
    """Raise an error that shows the line of the YAML."""
    raise context.build_resolve_fn_exc([message], field_name=str(context.path[-1]), model=model)
