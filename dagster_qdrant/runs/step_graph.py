"""The graph of the steps in which several workers load the rows of assets.

One step extracts, some load a part each, one completes. All have the body of the assets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dagster import (
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    DagsterInvalidDefinitionError,
    GraphOut,
    HookDefinition,
    In,
    Nothing,
    Out,
    RetryPolicy,
    graph,
    op,
)

from dagster_qdrant.runs.definitions import keep_plan, step_functions

if TYPE_CHECKING:
    from dagster_qdrant.runs.plan import QdrantAssetsPlan

EXTRACT, LOAD, COMPLETE = "extract", "load", "complete"
# What the steps hand on to one another.
BEGUN, PART, LOADED = "begun", "part", "loaded"

_WORKERS = "qdrant_workers"

# What was handed to the steps of this process.
_inputs: WeakKeyDictionary[AssetExecutionContext, Mapping[str, Any]] = WeakKeyDictionary()


def part_output(number: int) -> str:
    """The name of the output with a part."""
    return f"{PART}_{number}"


def inputs_of(context: AssetExecutionContext) -> Mapping[str, Any]:
    """What was handed to a step."""
    return _inputs[context]


def workers_of(definition: AssetsDefinition | None) -> int:
    """How many workers load the rows of assets at most; 1 if a single step does all."""
    functions = step_functions(definition) if definition else []
    return next((getattr(each, _WORKERS) for each in functions if hasattr(each, _WORKERS)), 1)


def refuse_unfit_workers(workers: Any) -> None:
    """Refuse a number of workers that there cannot be.

    Raises:
        ValueError: If it is something else than a whole number, 1 or more.
    """
    is_number = isinstance(workers, int) and not isinstance(workers, bool)
    if workers is None or (is_number and workers >= 1):
        return
    raise ValueError(f"`workers` is {workers!r}; it must be a whole number, 1 or more.")


def graph_assets(
    function: Callable[..., Any],
    plan: QdrantAssetsPlan,
    specs: Mapping[str, AssetSpec],
    *,
    workers: int,
    worker_tags: Mapping[str, Any] | None,
    io_manager_key: str,
    check_specs: Iterable[AssetCheckSpec],
    name: str | None,
    op_tags: Mapping[str, Any] | None,
    pool: str | None,
    retry_policy: RetryPolicy | None,
    group_name: str | None,
    hooks: Set[HookDefinition] | None,
    required_resource_keys: Set[str] = frozenset(),
    **options: Any,
) -> AssetsDefinition:
    """Assets whose rows are loaded by several steps.

    Args:
        function: The body, which runs in each step.
        plan: What the assets load.
        specs: The assets, by the name of their resource.
        workers: How many steps load a part of the rows.
        worker_tags: Further tags of these.
        io_manager_key: The IO manager by which the parts travel.
        check_specs: The checks of the assets.
        name: The graph's name. Default: the function's.
        op_tags: Tags of all steps.
        pool: Concurrency pool of all steps.
        retry_policy: How steps are retried.
        group_name: Group of all assets.
        hooks: Hooks of all steps.
        required_resource_keys: Resources that the body does not name.
        **options: What `AssetsDefinition.from_graph` takes.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)) or (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    ):
        raise DagsterInvalidDefinitionError(
            "With `workers`, the assets need a plain function: `yield from qdrant.run(context)`."
        )
    checks = list(check_specs)
    keys = {spec.key.to_python_identifier(): spec.key for spec in specs.values()}
    outputs = [*keys, *(check.get_python_identifier() for check in checks)]
    upstream = sorted(
        {dep.asset_key for spec in specs.values() for dep in spec.deps} - set(keys.values())
    )
    deps = {f"after_{key.to_python_identifier()}": key for key in upstream}
    numbers = range(1, workers + 1)
    handed = Out(io_manager_key=io_manager_key)
    common: dict[str, Any] = {
        "pool": pool,
        "retry_policy": retry_policy,
        "required_resource_keys": set(required_resource_keys),
    }

    extract = op(
        name=EXTRACT,
        ins={each: In(Nothing) for each in deps},
        out={
            BEGUN: handed,
            **{
                part_output(number): Out(io_manager_key=io_manager_key, is_required=False)
                for number in numbers
            },
        },
        tags=op_tags,
        **common,
    )(_step(function, ()))
    load = op(
        name=LOAD,
        ins={PART: In()},
        out=handed,
        tags={**(op_tags or {}), **(worker_tags or {})},
        **common,
    )(_step(function, (PART,)))
    complete = op(
        name=COMPLETE,
        ins={BEGUN: In(), LOADED: In()},
        out={output: Out(Nothing, is_required=False) for output in outputs},
        tags=op_tags,
        **common,
    )(_step(function, (BEGUN, LOADED)))
    for definition in (extract, load, complete):
        vars(definition.compute_fn.decorated_fn)[_WORKERS] = workers  # type: ignore[union-attr]

    def steps(**upstream_assets: Any) -> dict[str, Any]:
        extracted = extract(**upstream_assets)
        loaded = [
            load.alias(f"{LOAD}_{number}")(getattr(extracted, part_output(number)))
            for number in numbers
        ]
        completed = complete(getattr(extracted, BEGUN), loaded)
        if len(outputs) == 1:
            return {outputs[0]: completed}
        return {output: getattr(completed, output) for output in outputs}

    steps.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in deps]
    )
    composed = graph(
        name=name or function.__name__,
        out={output: GraphOut() for output in outputs},
    )(steps)
    by_key = {spec.key: spec for spec in specs.values()}

    def in_full(spec: AssetSpec) -> AssetSpec:
        """The spec, of which a graph takes a part only."""
        own = by_key[spec.key].replace_attributes(partitions_def=spec.partitions_def)
        return own.replace_attributes(group_name=group_name) if group_name else own

    assets = AssetsDefinition.from_graph(
        composed,
        keys_by_input_name=deps,
        keys_by_output_name=keys,
        can_subset=True,
        check_specs=checks or None,
        hook_defs=hooks,
        **options,
    ).map_asset_specs(in_full)
    keep_plan(assets, plan, {name: spec.key for name, spec in specs.items()})
    return assets


def _step(function: Callable[..., Any], inputs: tuple[str, ...]) -> Callable[..., Any]:
    """The body of the assets as that of a step, which is handed something besides."""
    signature = inspect.signature(function)
    context, *others = signature.parameters.values()

    @wraps(function)
    def body(context: AssetExecutionContext, **given: Any) -> Iterator[Any]:
        _inputs[context] = {name: given.pop(name) for name in inputs}
        events = function(context, **given)
        if events is not None:
            yield from events

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    body.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            context.replace(annotation=AssetExecutionContext, kind=kind),
            *(inspect.Parameter(name, kind) for name in inputs),
            *others,
        ],
        return_annotation=inspect.Signature.empty,
    )
    # Dagster looks for resources here, some of its versions in the signature.
    hints = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    body.__annotations__ = {**hints, context.name: AssetExecutionContext}
    return body
