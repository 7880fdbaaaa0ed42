"""Collections and their aliases: each collection is one shard of the engine, in a folder."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import qdrant_edge as edge
from qdrant_client.http import models as m

from . import convert, strict
from .errors import ApiError, UpdateError

# The engine wants at least one vector; a collection without any gets one that nobody fills.
_PLACEHOLDER = "_none_"
_STRICT = {
    "enabled": True,
    "unindexed_filtering_retrieve": False,
    "unindexed_filtering_update": False,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "params": {
        "vectors": {},
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": True,
    },
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
    "optimizers_config": {
        "default_segment_number": 0,
        "indexing_threshold": 10000,
        "flush_interval_sec": 5,
    },
    "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
}


def _write_json(path: Path, value: Any) -> None:
    """Write so that a kill leaves the old file or the new one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value))
    os.replace(new, path)


def _as_json(model: Any) -> dict[str, Any]:
    """What is set in a model."""
    fields: dict[str, Any] = model.model_dump(mode="json", exclude_none=True)
    return fields


class Collection:
    """A shard, and beside it what the engine does not keep: name, configuration, index schemas."""

    def __init__(self, folder: Path, shard: edge.EdgeShard | None = None) -> None:
        """Open what `create` has made, or take it as it made it."""
        self.folder = folder
        self._stored = json.loads((folder / "collection.json").read_text())
        self.name: str = self._stored["name"]
        self.config: dict[str, Any] = self._stored["config"]
        self._indexes: dict[str, Any] = self._stored["indexes"]
        dense = self.config.get("vectors", {})
        dense = {"": dense} if "size" in dense else dense
        self._sizes: dict[str, int] = {name: params["size"] for name, params in dense.items()}
        self._shard = shard or edge.EdgeShard.load(str(folder / "shard"))
        self._operations = itertools.count(1)

    @classmethod
    def create(cls, folder: Path, name: str, config: m.CreateCollection) -> Collection:
        """Make the shard, then the file that says it is complete."""
        dense, sparse = config.vectors or {}, config.sparse_vectors or {}
        vectors = {
            key: edge.EdgeVectorParams(
                params.size,
                getattr(edge.Distance, params.distance),
                multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
                if params.multivector_config
                else None,
            )
            for key, params in (dense if isinstance(dense, dict) else {"": dense}).items()
        }
        sparse_vectors = {
            key: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if set_.modifier else None)
            for key, set_ in sparse.items()
        }
        if not vectors and not sparse_vectors:
            sparse_vectors = {_PLACEHOLDER: edge.EdgeSparseVectorParams()}
        folder.mkdir()
        layout = edge.EdgeConfig(vectors, sparse_vectors)
        shard = edge.EdgeShard.create(str(folder / "shard"), layout)
        stored = {"name": name, "config": _as_json(config), "indexes": {}}
        _write_json(folder / "collection.json", stored)
        return cls(folder, shard)

    def _save(self) -> None:
        _write_json(self.folder / "collection.json", self._stored)

    def close(self) -> None:
        """Bring all changes to disk."""
        self._shard.flush()
        self._shard.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Use the shard. Its errors are bare exceptions with the server's text."""
        try:
            return getattr(self._shard, method)(*arguments)
        except Exception as error:
            if type(error) is not Exception:
                raise
            if str(error).startswith("No point with id"):
                raise UpdateError(404, f"Not found: {error} found") from None
            raise UpdateError(400, f"Wrong input: {error}") from None

    def apply(self, operation: edge.UpdateOperation) -> int:
        """Change the shard; return the number of the operation."""
        self.ask("update", operation)
        return next(self._operations)

    def vector(self, value: Any) -> Any:
        """The vectors of a point for the engine, if they fit.

        The engine would log an update before it finds that they don't, and replaying such an
        update after a kill wipes the point.
        """
        converted = convert.vector(value)
        for name, vector in (converted if isinstance(converted, dict) else {"": converted}).items():
            size = self._sizes.get(name)
            problem = None
            if size is None and name not in self.config.get("sparse_vectors", {}):
                problem = f"Not existing vector name error: {name}"
            elif (size is None) != isinstance(vector, edge.SparseVector):
                problem = "Conversion between sparse and regular vectors failed"
            elif size is not None:
                for row in vector if vector and isinstance(vector[0], list) else [vector]:
                    if len(row) != size:
                        problem = f"Vector dimension error: expected dim: {size}, got {len(row)}"
            if problem:
                raise UpdateError(400, f"Wrong input: {problem}")
        return converted

    def filter(self, value: m.Filter | None, *, update: bool = False) -> edge.Filter | None:
        """A filter for the engine, if strict mode agrees to it."""
        mode = self.config.get("strict_mode_config", {})
        allowed = mode.get(f"unindexed_filtering_{'update' if update else 'retrieve'}", True)
        if mode.get("enabled") and not allowed:
            strict.check(value, {field: self._index_type(field) for field in self._indexes})
        return convert.filter_(value)

    def _index_type(self, field: str) -> str:
        schema = self._indexes[field]
        return str(schema if isinstance(schema, str) else schema["type"])

    def add_index(self, field: str, schema: Any) -> int:
        """Index a payload field."""
        index = convert.index_schema(schema)
        number = self.apply(edge.UpdateOperation.create_field_index(field, index))
        plain = isinstance(schema, m.PayloadSchemaType)
        self._indexes[field] = schema.value if plain else _as_json(schema)
        self._save()
        return number

    def remove_index(self, field: str) -> int:
        """Remove the index of a payload field."""
        number = self.apply(edge.UpdateOperation.delete_field_index(field))
        self._indexes.pop(field, None)
        self._save()
        return number

    def update(self, change: m.UpdateCollection) -> None:
        """Change the configuration; metadata is merged, and a null removes its key."""
        for part in ("hnsw_config", "optimizers_config", "strict_mode_config", "metadata"):
            if value := getattr(change, part):
                new = value if part == "metadata" else _as_json(value)
                merged = self.config.get(part, {}) | new
                self.config[part] = {k: v for k, v in merged.items() if v is not None}
        if change.quantization_config:
            self.config["quantization_config"] = _as_json(change.quantization_config)
        if change.params:
            self.config |= _as_json(change.params)
        for name, vector in (change.vectors or {}).items():
            dense = self.config["vectors"]
            (dense[name] if name else dense).update(_as_json(vector))
        self._save()

    def info(self) -> m.CollectionInfo:
        """What Qdrant tells of a collection."""
        shard = self._shard.info()
        parts = {part: set_ | self.config.get(part, {}) for part, set_ in _DEFAULTS.items()}
        if parts["optimizers_config"].get("max_optimization_threads") == "auto":
            del parts["optimizers_config"]["max_optimization_threads"]  # so Qdrant tells of it
        parts["params"] |= {k: v for k, v in self.config.items() if k in _PARAMS}
        schema = {
            field: {
                "data_type": self._index_type(field),
                "params": None if isinstance(index, str) else index,
                "points": shard.payload_schema[field].points,
            }
            for field, index in self._indexes.items()
        }
        return m.CollectionInfo.model_validate(
            {
                "status": "green",
                "optimizer_status": "ok",
                "points_count": shard.points_count,
                "indexed_vectors_count": 0,
                "segments_count": shard.segments_count,
                "payload_schema": schema,
                "config": {
                    "optimizer_config": parts.pop("optimizers_config"),
                    **parts,
                    "quantization_config": self.config.get("quantization_config"),
                    "strict_mode_config": self.config.get("strict_mode_config"),
                    "metadata": self.config.get("metadata"),
                },
            }
        )


_PARAMS = m.CollectionParams.model_fields


class Storage:
    """All collections and aliases in a folder. The lock is for whoever uses them."""

    def __init__(self, folder: Path, *, strict_mode: bool = False) -> None:
        """Open a folder, or make it."""
        self.lock = threading.RLock()
        self._strict_mode = strict_mode
        self._folder = folder / "collections"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._alias_file = folder / "aliases.json"
        self.aliases: dict[str, str] = {}
        if self._alias_file.exists():
            self.aliases = json.loads(self._alias_file.read_text())
        self.collections: dict[str, Collection] = {}
        for path in self._folder.iterdir():
            if (path / "collection.json").exists():
                collection = Collection(path)
                self.collections[collection.name] = collection
            else:  # a kill came before its creation or its removal was done
                shutil.rmtree(path)

    def close(self) -> None:
        """Bring everything to disk."""
        with self.lock:
            for collection in self.collections.values():
                collection.close()

    def __contains__(self, name: str) -> bool:
        """Whether a collection or an alias has the name."""
        return name in self.collections or name in self.aliases

    def __getitem__(self, name: str) -> Collection:
        """The collection of a name or alias."""
        return self._collection(self.aliases.get(name, name))

    def _collection(self, name: str) -> Collection:
        if name not in self.collections:
            raise ApiError(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.collections[name]

    def create(self, name: str, config: m.CreateCollection) -> None:
        """Create a collection."""
        self._check_free(name)
        if name in self.aliases:
            text = f"Can't create collection with name {name}. Alias with the same name"
            raise ApiError(400, f"Wrong input: {text} already exists")
        if self._strict_mode and config.strict_mode_config is None:
            config.strict_mode_config = m.StrictModeConfig(**_STRICT)  # type: ignore[arg-type]
        self.collections[name] = Collection.create(self._folder / uuid4().hex, name, config)

    def delete(self, name: str) -> bool:
        """Delete a collection with its aliases; an alias does not stand for it here."""
        collection = self.collections.pop(name, None)
        if collection is None:
            return False
        self.aliases = {key: value for key, value in self.aliases.items() if value != name}
        _write_json(self._alias_file, self.aliases)
        (collection.folder / "collection.json").unlink()
        collection.close()
        shutil.rmtree(collection.folder)
        return True

    def remove(self, prefix: str) -> None:
        """Delete the collections whose names begin so."""
        with self.lock:
            for name in [name for name in self.collections if name.startswith(prefix)]:
                self.delete(name)

    def change_aliases(self, actions: list[Any]) -> None:
        """Apply the actions in order, unseen by others until all are done.

        As in Qdrant, those before one that fails stay.
        """
        try:
            for action in actions:
                self._change_alias(action)
        finally:
            _write_json(self._alias_file, self.aliases)

    def _change_alias(self, action: Any) -> None:
        match action:
            case m.CreateAliasOperation(create_alias=create):
                self._collection(create.collection_name)
                self._check_free(create.alias_name)
                self.aliases[create.alias_name] = create.collection_name
            case m.DeleteAliasOperation(delete_alias=delete):
                self.aliases.pop(delete.alias_name, None)
            case m.RenameAliasOperation(rename_alias=rename):
                if rename.old_alias_name not in self.aliases:
                    text = f"Alias {rename.old_alias_name} does not exists!"
                    raise ApiError(404, f"Not found: {text}")
                self.aliases[rename.new_alias_name] = self.aliases.pop(rename.old_alias_name)

    def _check_free(self, name: str) -> None:
        if name in self.collections:
            raise ApiError(409, f"Wrong input: Collection `{name}` already exists!")
