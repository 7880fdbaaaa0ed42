"""What a definition was made for goes with it, and with the copies that Dagster makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, update_wrapper
from types import FunctionType
from typing import Any

from dagster import AssetCheckKey, AssetKey, AssetsDefinition, GraphDefinition, OpDefinition

from dagster_qdrant.runs.plan import QdrantAssetsPlan


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
    for function in step_functions(definition):
        vars(function)[_DEFINITION] = _Definition(plan, keys, outputs)


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


def steps_of(definition: AssetsDefinition) -> list[OpDefinition]:
    """The steps of a definition: its op, or those in its graph. All have the same body."""
    if not definition.is_executable:
        return []
    node = definition.node_def
    steps = node.node_defs if isinstance(node, GraphDefinition) else [node]
    return [step for step in steps if isinstance(step, OpDefinition)]


def step_functions(definition: AssetsDefinition) -> list[Any]:
    """The functions of a definition's steps."""
    computed: list[Any] = [step.compute_fn for step in steps_of(definition)]
    return [getattr(compute, "decorated_fn", compute) for compute in computed]


def _kept(definition: AssetsDefinition) -> _Definition | None:
    kept = (getattr(function, _DEFINITION, None) for function in step_functions(definition))
    return next((each for each in kept if each is not None), None)


def _asset_keys(definition: AssetsDefinition) -> dict[str, AssetKey]:
    """The asset of each output, which is the asset itself or a check of it."""
    return {
        output: key.asset_key if isinstance(key, AssetCheckKey) else key
        for output, key in definition.entity_keys_by_output_name.items()
    }
