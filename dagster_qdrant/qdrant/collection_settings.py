"""What was set on a collection, so that another one can be made like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel
    from qdrant_client import models


def settings_of(info: models.CollectionInfo) -> dict[str, Any]:
    """The settings of a collection, as arguments for `create_collection`.

    Its vectors, its metadata and its payload indexes are not among them.
    """
    from qdrant_client import models

    config, params = info.config, info.config.params
    settings: dict[str, Any] = {
        "shard_number": params.shard_number,
        "sharding_method": params.sharding_method,
        "replication_factor": params.replication_factor,
        "write_consistency_factor": params.write_consistency_factor,
        "on_disk_payload": params.on_disk_payload,
        "payload": params.payload,
        "id_tracker": params.id_tracker,
        "hnsw_config": models.HnswConfigDiff(**_given(config.hnsw_config)),
        "optimizers_config": models.OptimizersConfigDiff(**_given(config.optimizer_config)),
        "quantization_config": config.quantization_config,
    }
    if config.wal_config is not None:
        settings["wal_config"] = models.WalConfigDiff(**_given(config.wal_config))
    if config.strict_mode_config is not None:
        strict = _given(config.strict_mode_config)
        settings["strict_mode_config"] = models.StrictModeConfig.model_validate(strict)
    return {name: value for name, value in settings.items() if value is not None}


def later_settings_of(info: models.CollectionInfo) -> models.CollectionParamsDiff | None:
    """The settings that a collection can be given only once it is there, if any were."""
    from qdrant_client import models

    params = info.config.params
    if params.read_fan_out_factor is None and params.read_fan_out_delay_ms is None:
        return None
    return models.CollectionParamsDiff(
        read_fan_out_factor=params.read_fan_out_factor,
        read_fan_out_delay_ms=params.read_fan_out_delay_ms,
    )


def vector_like(
    vector: models.VectorParams, former: models.VectorParams | None
) -> models.VectorParams:
    """A vector that is stored and searched as another one is."""
    if former is None:
        return vector
    is_the_same = (vector.size, vector.distance) == (former.size, former.distance)
    itself = {
        "size": vector.size,
        "distance": vector.distance,
        "datatype": former.datatype if is_the_same else vector.datatype,
        "multivector_config": vector.multivector_config,
    }
    return former.model_copy(update=itself)


def index_schemas(info: models.CollectionInfo) -> dict[str, Any]:
    """The payload indexes of a collection, as `create_payload_index` takes them."""
    return {
        name: index.params if index.params is not None else index.data_type
        for name, index in info.payload_schema.items()
    }


def index_schema(index: Mapping[str, Any]) -> Any:
    """A payload index that is given as plain data, as `create_payload_index` takes it."""
    from qdrant_client import models

    return models.PayloadSchemaType(index["type"]) if len(index) == 1 else index_params(index)


def index_params(index: Mapping[str, Any]) -> Any:
    """The model of qdrant-client for a payload index that is given as plain data.

    Raises:
        ValueError: If an index of its type has no such fields.
    """
    from qdrant_client import models

    model = getattr(models, f"{str(index['type']).capitalize()}IndexParams")
    return model.model_validate(dict(index))


def index_is_like(
    there: models.PayloadIndexInfo, asked: Mapping[str, Any], *, strictly: bool
) -> bool:
    """Whether a payload index is the one that is asked for.

    Args:
        there: What Qdrant says of it.
        asked: What is asked for, as plain data.
        strictly: Whether its parameters count. A server may tell them in other words than it was
            told them, so this is asked only where something else was asked for before.
    """
    if there.data_type.value != asked["type"]:
        return False
    if not strictly:
        return True
    params = there.params.model_dump(mode="json", exclude_none=True) if there.params else {}
    return {**params, "type": asked["type"]} == dict(asked)


def _given(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(exclude_none=True)
