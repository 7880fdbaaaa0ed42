"""What a user asks for a collection: read, given to a new one, and compared with one that is there.

Settings have the names and types that Qdrant's create call has. Those of vectors are among them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_qdrant.qdrant.collection_settings import settings_of, vector_like

if TYPE_CHECKING:
    from qdrant_client import models

_OF_VECTORS = ("distance", "datatype", "on_disk", "memory")
# What Qdrant keeps as it was when a collection was made.
_FIXED = ("shard_number", "sharding_method", "wal_config", "distance", "datatype")
# Arguments of the create call that are not the user's: they follow from the table.
_NOT_ASKED = frozenset({"vectors", "sparse_vectors", "metadata"})
# Objects whose fields are settings for themselves.
_WITH_FIELDS = frozenset({"hnsw_config", "optimizers_config", "wal_config", "strict_mode_config"})
# What of a collection is changed with its parameters.
_PARAMS = frozenset(
    {
        "replication_factor",
        "write_consistency_factor",
        "on_disk_payload",
        "payload",
        "id_tracker",
    }
)


# What may be set by hand on a vector, and stays when another one takes its place.
_SET_BY_HAND = frozenset({"hnsw_config", "quantization_config", "on_disk", "memory"})


@dataclass(frozen=True)
class NamedVectorParams:
    """What is asked for of a vector beside the main one.

    Args:
        size: Its number of dimensions.
        settings: How it is stored and searched, by Qdrant's names.
        multivector: Whether a point has several of it, one a token.
        before: The names of those settings that were asked for of the one whose place it takes.
    """

    size: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    multivector: bool = False
    before: frozenset[str] = frozenset()


def read_settings(said: Any) -> dict[str, Any]:
    """Read what a user said of a collection.

    Args:
        said: By name, values, models of qdrant-client, or their fields.

    Returns:
        Plain data, as Qdrant's REST interface takes it.

    Raises:
        ValueError: For a name or a value that Qdrant does not have, and for what cannot work.
    """
    if said is None:  # before the import: code locations are loaded in every process
        return {}
    from qdrant_client import models

    if not isinstance(said, Mapping):
        raise ValueError(  # noqa: TRY004
            "`collection` must be settings by name, say {'on_disk_payload': True}. It is "
            f"{said!r}."
        )
    known = [*(models.CreateCollection.model_fields.keys() - _NOT_ASKED), *_OF_VECTORS]
    _refuse_unknown(said, known, "collection")
    plain = {
        name: value.model_dump(mode="json", exclude_none=True)
        if hasattr(value, "model_dump")
        else value
        for name, value in said.items()
    }
    for name, model in _models_with_fields().items():
        if isinstance(plain.get(name), Mapping):
            _refuse_unknown(plain[name], model.model_fields, f"collection[{name!r}]")
    try:
        of_collection, of_vectors = _models_of(plain)
    except ValueError as error:
        raise ValueError(f"`collection`: {_first(error)}") from error
    settings: dict[str, Any] = of_collection.model_dump(mode="json", exclude_none=True)
    of_vectors = of_vectors.model_dump(mode="json", exclude_none=True)
    settings |= {name: of_vectors[name] for name in _OF_VECTORS if plain.get(name) is not None}
    if settings.get("sharding_method") == "custom":
        raise ValueError(
            "`collection` asks for custom sharding, where each row needs a shard key, and rows are "
            "written without one. Leave `sharding_method` out, and index the column of tenants: "
            "`index={'tenant': {'type': 'keyword', 'is_tenant': True}}`."
        )
    if settings.get("datatype") == "uint8":
        raise ValueError(
            "`collection` asks for vectors of the datatype 'uint8', whole numbers from 0 to 255, "
            "and models make numbers between -1 and 1, which would all become 0. Use 'float16', "
            "or a `quantization_config`."
        )
    return settings


def asks_of_vectors(asked: Mapping[str, Any]) -> list[str]:
    """The settings among those that are asked for that only a vector of a model has."""
    return [name for name in _OF_VECTORS if name in asked]


def without_settings_of_vectors(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for of a collection without a vector of a model."""
    return {name: value for name, value in asked.items() if name not in _OF_VECTORS}


def _refuse_unknown(said: Mapping[str, Any], known: Any, where: str) -> None:
    for name in said:
        if name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
            advice = (
                f"Did you mean `{nearest[0]}`?"
                if nearest
                else f"There are {', '.join(sorted(known))}."
            )
            raise ValueError(f"`{where}` has {name!r}, which is no setting. {advice}")


def _models_with_fields() -> dict[str, Any]:
    from qdrant_client import models

    return {
        "hnsw_config": models.HnswConfigDiff,
        "optimizers_config": models.OptimizersConfigDiff,
        "wal_config": models.WalConfigDiff,
        "strict_mode_config": models.StrictModeConfig,
    }


def _models_of(asked: Mapping[str, Any]) -> tuple[Any, Any]:
    """What is asked of the collection, and of a vector, as models of qdrant-client."""
    from qdrant_client import models

    of_vectors = {name: asked[name] for name in _OF_VECTORS if asked.get(name) is not None}
    others = {name: value for name, value in asked.items() if name not in _OF_VECTORS}
    usual = {"size": 1, "distance": models.Distance.COSINE}
    return (
        models.CreateCollection.model_validate(others),
        models.VectorParams.model_validate(usual | of_vectors),
    )


def _first(error: ValueError) -> str:
    """The first thing that pydantic says."""
    errors: list[Any] = getattr(error, "errors", list)()
    if not errors:
        return str(error)
    where = ".".join(f"{part}" for part in errors[0]["loc"])
    return f"`{where}` is {errors[0]['input']!r}. {errors[0]['msg']}."


def settings_for(asked: Mapping[str, Any], former: models.CollectionInfo | None) -> dict[str, Any]:
    """The settings of a new collection, as arguments for `create_collection`.

    Args:
        asked: What is asked for.
        former: The collection whose place it takes, whose settings it has but for these.
    """
    settings = settings_of(former) if former else {}
    of_collection, _ = _models_of(asked)
    for name in asked:
        if name in _OF_VECTORS:
            continue
        value = getattr(of_collection, name)
        if name in _WITH_FIELDS and name in settings:
            fields = settings[name].model_dump(exclude_none=True)
            value = type(value).model_validate(fields | value.model_dump(exclude_none=True))
        settings[name] = value
    return settings


def vector_for(
    size: int, asked: Mapping[str, Any], former: models.VectorParams | None
) -> models.VectorParams:
    """The parameters of a new vector.

    Args:
        size: Its size.
        asked: What is asked for.
        former: The vector whose place it takes.
    """
    from qdrant_client import models

    distance = former.distance if former else models.Distance.COSINE
    vector = vector_like(models.VectorParams(size=size, distance=distance), former)
    of_vectors = {name: asked[name] for name in _OF_VECTORS if name in asked}
    given = vector.model_dump(exclude_none=True) | of_vectors
    return models.VectorParams.model_validate(given)


def named_vector_for(
    asked: NamedVectorParams, former: models.VectorParams | None
) -> models.VectorParams:
    """The parameters of a further vector: what is asked for, and what somebody set by hand.

    Args:
        asked: What is asked for.
        former: The vector whose place it takes.
    """
    from qdrant_client import models

    by_hand = former.model_dump(mode="json", exclude_none=True) if former else {}
    kept = {
        name: value
        for name, value in by_hand.items()
        if name in _SET_BY_HAND and name not in asked.before
    }
    given = {"distance": models.Distance.COSINE, **kept, **asked.settings, "size": asked.size}
    if asked.multivector:
        comparator = models.MultiVectorComparator.MAX_SIM
        given["multivector_config"] = models.MultiVectorConfig(comparator=comparator)
    return models.VectorParams.model_validate(given)


def fixed_differences(
    asked: Mapping[str, Any],
    info: models.CollectionInfo,
    vector_name: str,
    *,
    is_local: bool,
) -> dict[str, tuple[Any, Any]]:
    """What is asked for that a collection that is there cannot be given: what it is, and shall be.

    Args:
        asked: What is asked for.
        info: The collection.
        vector_name: Its vector that a model makes, if it has one.
        is_local: Whether it is of local mode, where most settings have no meaning.
    """
    differences = _differences(asked, info, vector_name, is_local=is_local)
    return {name: both for name, both in differences.items() if name in _FIXED}


def changes(
    asked: Mapping[str, Any], info: models.CollectionInfo, vector_name: str
) -> dict[str, Any]:
    """What has to be changed of a collection, as arguments for `update_collection`.

    Args:
        asked: What is asked for. What nobody asks for stays as it is.
        info: The collection.
        vector_name: Its vector that a model makes, if it has one.
    """
    from qdrant_client import models

    differing = _differences(asked, info, vector_name, is_local=False).keys() - set(_FIXED)
    of_collection, _ = _models_of(asked)
    changed: dict[str, Any] = {}
    params = {name: getattr(of_collection, name) for name in differing & _PARAMS}
    if params:
        changed["collection_params"] = models.CollectionParamsDiff(**params)
    if of_vectors := {name: asked[name] for name in _OF_VECTORS if name in differing}:
        diff = models.VectorParamsDiff.model_validate(of_vectors)
        changed["vectors_config"] = {vector_name: diff}
    for name in differing - _PARAMS - set(_OF_VECTORS):
        changed[name] = getattr(of_collection, name)
    return changed


def _differences(
    asked: Mapping[str, Any], info: models.CollectionInfo, vector_name: str, *, is_local: bool
) -> dict[str, tuple[Any, Any]]:
    there = {} if is_local else _plain(settings_of(info))
    vectors = info.config.params.vectors
    vector = vectors.get(vector_name) if isinstance(vectors, dict) else None
    if vector is not None:
        usual = {"datatype": "float32", "on_disk": False}
        there |= usual | vector.model_dump(mode="json", exclude_none=True)
    compared = {
        name: (there.get(name), value)
        for name, value in asked.items()
        if (vector is not None if name in _OF_VECTORS else not is_local)
    }
    if there.get("sharding_method") is None and "sharding_method" in compared:
        compared["sharding_method"] = ("auto", asked["sharding_method"])
    return {name: both for name, both in compared.items() if not _is_within(both[1], both[0])}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.model_dump(mode="json", exclude_none=True)
        if hasattr(value, "model_dump")
        else getattr(value, "value", value)
        for name, value in settings.items()
    }


def _is_within(asked: Any, there: Any) -> bool:
    """Whether what is asked for is there, with whatever else."""
    if isinstance(asked, Mapping):
        there = there if isinstance(there, Mapping) else {}
        return all(_is_within(value, there.get(name)) for name, value in asked.items())
    if asked == "auto" and there is None:  # so Qdrant tells of what it chooses itself
        return True
    return bool(asked == there)
