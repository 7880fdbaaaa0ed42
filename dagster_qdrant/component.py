"""`QdrantCollectionsComponent`: the factory of assets as YAML, for `dg`."""

# No `from __future__ import annotations` here: Dagster reads the fields' types.

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Optional, Union

from dagster import (
    AssetsDefinition,
    AssetSpec,
    Component,
    ComponentLoadContext,
    Definitions,
    EnvVar,
    ResolutionContext,
    Resolvable,
    Resolver,
    Scaffolder,
    scaffold_component,
    scaffold_with,
    with_resources,
)
from dagster.components.resolved.errors import ResolutionException
from dagster.components.scaffold.scaffold import ScaffoldRequest
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from dagster_dlt.translator import DltResourceTranslatorData
from pydantic import BaseModel, ConfigDict, Field, create_model

from dagster_qdrant.adapter import qdrant_adapter
from dagster_qdrant.assets import build_qdrant_assets
from dagster_qdrant.resource import QdrantResource
from dagster_qdrant.runs.checking import refuse_unknown_checks
from dagster_qdrant.runs.plan import as_source
from dagster_qdrant.translator import QdrantDltTranslator

if TYPE_CHECKING:
    from dlt.extract import DltSource

_Columns = Union[str, list[str]]

# The fields of `QdrantResource`, so that `dg check yaml` knows them. Each may be a template.
_ResourceModel: type[BaseModel] = create_model(  # type: ignore[call-overload]
    "QdrantResourceModel",
    __config__=ConfigDict(extra="forbid"),
    **{
        name: (Union[info.annotation, str], Field(default=None, description=info.description))
        for name, info in QdrantResource.model_fields.items()
    },
)

_ENVIRONMENT_VARIABLE = re.compile(r"""\{\{\s*env(?:\.(\w+)|\(\s*['"](\w+)['"]\s*\))\s*\}\}""")


def _resolve_resource(context: ResolutionContext, model: Optional[BaseModel]) -> Any:
    if model is None:
        return None
    given = model.model_dump(exclude_unset=True)
    key = given.pop("api_key", None)
    options: dict[str, Any] = dict(context.resolve_value(given))
    if key is not None:
        # A template's value would be stored with the code location, and shown in the UI.
        variable = _ENVIRONMENT_VARIABLE.fullmatch(key.strip())
        if variable is None:
            raise ResolutionException(  # without the lines of the YAML, which hold the key
                f"{_place(context)}: `api_key` must name an environment variable, so that the key "
                'is not stored with the definitions: "{{ env.QDRANT_API_KEY }}".'
            )
        options["api_key"] = EnvVar(variable[1] or variable[2])
    return QdrantResource(**options)


def _place(context: ResolutionContext) -> str:
    if context.source_position_tree is None:
        return "attributes"
    source = context.source_position_tree.source_error(
        yaml_path=context.path, inline_error_message="", value_error=True
    )
    return f"{source.file_name}:{source.start_line_no} - {source.location}"


def _resolve_checks(context: ResolutionContext, value: Any) -> Any:
    checks = context.resolve_value(value)
    refuse_unknown_checks(checks)
    return checks


def _resolve_source(context: ResolutionContext, model: Any) -> Any:
    """What a load names, if it is a source, with the resources that `embed` names."""
    at_source = context.at_path("source")
    data = at_source.resolve_value(model.source)
    if isinstance(data, str):
        try:
            data = _import(context, data)
        except (ImportError, AttributeError, ValueError) as error:
            _fail(at_source, f"`source` is {data!r}, which cannot be imported: {error}.", model)
    try:
        data = _made(data)
        source = as_source(data, None)
    except TypeError as error:
        _fail(at_source, str(error).replace("`dlt_source`", "`source`"), model)
    if isinstance(model.embed, Mapping):
        for name in model.embed:
            if name not in source.resources:
                _fail(context.at_path("embed").at_path(name), _unknown(name, source), model)
    return data


def _import(context: ResolutionContext, path: str) -> Any:
    """The object at a dotted path; one that begins with a dot is looked up beside the YAML."""
    load_context = ComponentLoadContext.from_resolution_context(context)
    if path.startswith("."):
        path = f"{load_context.defs_relative_module_name(load_context.path)}{path}"
    module_name, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module_name), name)


def _made(data: Any) -> Any:
    """What a function makes, or what it is."""
    from dlt.extract import DltResource, DltSource

    is_function = callable(data) and not isinstance(data, (DltResource, DltSource))
    return data() if is_function else data


def _unknown(name: str, source: "DltSource") -> str:
    known = ", ".join(f"`{known}`" for known in source.resources)
    return f"`embed` names the resource `{name}`, which the source does not have. It has {known}."


def _fail(context: ResolutionContext, message: str, model: BaseModel) -> NoReturn:
    """Raise an error that shows the line of the YAML."""
    raise context.build_resolve_fn_exc([message], field_name=str(context.path[-1]), model=model)


@dataclass
class QdrantLoad(Resolvable):
    """One dlt source and the dataset that it is loaded into."""

    source: Annotated[
        Any,
        Resolver.from_model(
            _resolve_source,
            model_field_type=str,
            description="Dotted path of a dlt source, of resources, or of a function that makes "
            "them. '.loads.films' is `films` in loads.py beside the YAML.",
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
    name: Annotated[Optional[str], Resolver.default(description="Name of the op.")] = None
    pipeline_name: Annotated[
        Optional[str], Resolver.default(description="The name under which dlt keeps the state.")
    ] = None
    checks: Annotated[
        Union[bool, Literal["blocking"]],
        Resolver(
            _resolve_checks,
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


class _Scaffolder(Scaffolder):
    """Writes a load that runs as it is."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        folder = request.target_path.parent if request.append else request.target_path
        loads = folder / "loads.py"
        if not loads.exists():
            loads.write_text(_LOADS, encoding="utf-8")
        scaffold_component(
            request,
            {
                "qdrant": {"path": "{{ context.project_root }}/qdrant"},
                "loads": [
                    {
                        "source": ".loads.films",
                        "dataset_name": "movies",
                        "embed": {"films": ["title", "plot"]},
                    }
                ],
            },
        )


_LOADS = '''"""What is loaded. Put a dlt source of your own in place of this one."""

from collections.abc import Iterator
from typing import Any

import dlt


@dlt.resource(write_disposition="merge", primary_key="id")
def films() -> Iterator[dict[str, Any]]:
    """Films, each with its plot."""
    yield {"id": 1, "title": "Moon", "plot": "A lonely miner finds out that he is a copy."}
    yield {"id": 2, "title": "Jaws", "plot": "A shark is about, and the beaches stay open."}
'''


@scaffold_with(_Scaffolder)
@dataclass
class QdrantCollectionsComponent(Component, Resolvable):
    """Load dlt sources into Qdrant collections; the factory `build_qdrant_assets` as YAML.

    Override `get_asset_spec` in a subclass to change all of its assets.

    Example:
        >>> type: dagster_qdrant.QdrantCollectionsComponent
        >>> attributes:
        >>>   qdrant:
        >>>     location: https://my-cluster.qdrant.io
        >>>     api_key: "{{ env.QDRANT_API_KEY }}"
        >>>   loads:
        >>>     - source: .loads.films
        >>>       dataset_name: movies_dataset
        >>>       embed:
        >>>         films: [title, plot]
        >>>       checks: true
        >>>       translation:
        >>>         group_name: search
    """

    loads: Sequence[QdrantLoad]
    qdrant: Annotated[
        Optional[QdrantResource],
        Resolver(
            _resolve_resource,
            model_field_type=_ResourceModel,
            description="Fields of QdrantResource. Without it, the project's resource under the "
            "key 'qdrant' is used.",
        ),
    ] = None

    def get_asset_spec(self, data: DltResourceTranslatorData) -> AssetSpec:
        """The spec of the asset for one resource, before the load's `translation`."""
        return QdrantDltTranslator().get_asset_spec(data)

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The assets of all loads."""
        assets = [self._assets(load) for load in self.loads]
        if self.qdrant is None:
            return Definitions(assets=assets)
        return Definitions(assets=with_resources(assets, {"qdrant": self.qdrant}))

    def _assets(self, load: QdrantLoad) -> AssetsDefinition:
        # A copy: the source may be another load's too.
        source = as_source(_made(load.source), load.name or load.dataset_name).clone()
        for name, columns in load.embed.items():
            if name not in source.resources:
                raise ValueError(_unknown(name, source))
            qdrant_adapter(source.resources[name], embed=columns)
        return build_qdrant_assets(
            dlt_source=source,
            dataset_name=load.dataset_name,
            pipeline_name=load.pipeline_name,
            name=load.name,
            dagster_dlt_translator=_Translator(self, load.translation),
            checks=load.checks,
        )


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
