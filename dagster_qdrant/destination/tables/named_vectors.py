"""What a user says of further vectors of a row: each of columns of its own, by a model of its own.

The main vector, of `embed`, is not among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.given_fields import unknown_fields
from dagster_qdrant.embedding.options import VECTOR_NAME_PREFIX
from dagster_qdrant.embedding.sparse import KEYWORD_VECTOR

if TYPE_CHECKING:
    from dagster_qdrant.embedding.options import EmbeddingOptions, Kind

# Settings of a vector, by Qdrant's names.
_SETTINGS = ("distance", "datatype", "on_disk", "memory", "hnsw_config", "quantization_config")
# What may differ between two machines, or two searches, without other vectors.
_NOT_OF_VECTORS = ("query_prefix", "model_path")
# A name stands in a payload's field too, which Qdrant reads as a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class NamedVector:
    """A further vector of a row, beside the main one.

    Args:
        columns: The columns whose text is embedded, in the order of the text.
        model: Default: the model that is configured.
        query_prefix: What stands before what is searched for. Default: what the model's makers ask
            for, or what is configured for the configured model.
        passage_prefix: What stands before the text of a row, likewise.
        model_path: Folder with the model's files, for machines without access to a model hub. The
            configured model has its own.
        late_interaction: Whether there is a vector of each token (ColBERT), by a model made for
            that, which has to be named. It is run here, also where a service embeds. There is no
            HNSW index of it unless `hnsw_config` asks for one.
        dimensions: The size of the vectors, where an embedding service is asked for it.
        distance: "Cosine" (the default), "Dot", "Euclid" or "Manhattan".
        datatype: "float32" (the default) or "float16".
        on_disk: Whether vectors are read from disk.
        memory: How vectors are held in memory, in the words of newer servers.
        hnsw_config: The vector's own index, as Qdrant takes it.
        quantization_config: How vectors are compressed, as Qdrant takes it.

    Raises:
        ValueError: If no column is named, or for a setting that Qdrant does not have.

    Examples:
        >>> NamedVector("title", distance="Dot").to_json()
        {'columns': ['title'], 'distance': 'Dot'}
    """

    columns: Sequence[str] = ()
    model: str | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    model_path: str | None = None
    late_interaction: bool = False
    dimensions: int | None = None
    distance: str | None = None
    datatype: str | None = None
    on_disk: bool | None = None
    memory: str | None = None
    hnsw_config: Any = None
    quantization_config: Any = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, and keep plain data."""
        columns = (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)
        object.__setattr__(self, "columns", columns)
        if not columns or not all(isinstance(name, str) and name.strip() for name in columns):
            raise ValueError(
                "must name the columns whose text is embedded: a column's name or a list of them; "
                f"it names {list(columns)!r}"
            )
        if self.late_interaction and not self.model:
            raise ValueError(
                "is to be of late interaction, and the configured model is not. Name one: "
                "`model='colbert-ir/colbertv2.0'`"
            )
        given = {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}
        for name, value in _plain_settings(given).items() if given else ():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, said: Any) -> NamedVector:
        """Read what a user said: columns, `NamedVector` or its fields.

        Raises:
            ValueError: If it is something else.
        """
        if isinstance(said, NamedVector):
            return said
        if not isinstance(said, Mapping):
            return cls(said if isinstance(said, (str, list, tuple)) else (said,))
        if wrong := unknown_fields(said, cls):
            raise ValueError(wrong)
        return cls(**said)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for hints and for a collection's metadata."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        said |= {"columns": list(self.columns), "late_interaction": self.late_interaction or None}
        return {name: value for name, value in said.items() if value is not None}

    def with_columns(self, normalize: Callable[[str], str]) -> NamedVector:
        """The same with the names of columns as a schema writes them."""
        return replace(self, columns=tuple(dict.fromkeys(map(normalize, self.columns))))

    @property
    def settings(self) -> dict[str, Any]:
        """How it is stored and searched, by Qdrant's names."""
        # An index of all tokens is large, and such vectors mostly rerank what others found.
        usual = {"hnsw_config": {"m": 0}} if self.late_interaction else {}
        return usual | {name: value for name, value in self.to_json().items() if name in _SETTINGS}

    def options(self, configured: EmbeddingOptions) -> EmbeddingOptions:
        """What makes the vector.

        Args:
            configured: The model that is configured, and how models are run.

        Raises:
            EmbeddingError: If it cannot be run so.
        """
        model = self.model or configured.model
        if self.late_interaction and configured.service:  # which has no such models
            configured = replace(configured, service=None, batch_size=None, parallelism=0)
        kind: Kind = "late_interaction" if self.late_interaction else "dense"
        options = replace(configured, model=model, kind=kind)
        if model.lower() != configured.model.lower():  # what is configured is of another model
            options = replace(options, model_path=None, query_prefix=None, passage_prefix=None)
        if self.model_path:
            options = replace(
                options, model_path=self.model_path, cache_dir=None, local_files_only=False
            )
        if options.service and (self.dimensions or model != configured.model):
            service = replace(options.service, dimensions=self.dimensions)
            options = replace(options, service=service)
        if self.query_prefix is not None:
            options = replace(options, query_prefix=self.query_prefix)
        if self.passage_prefix is not None:
            options = replace(options, passage_prefix=self.passage_prefix)
        return options

    def settled(self, configured: EmbeddingOptions) -> NamedVector:
        """The same with the model and the prefixes by which it is made, whatever is configured."""
        options = self.options(configured)
        return replace(
            self,
            model=options.model,
            query_prefix=options.prefixes.query,
            passage_prefix=options.prefixes.passage,
            dimensions=options.service.dimensions if options.service else None,
        )

    def is_made_as(self, there: NamedVector, configured: EmbeddingOptions) -> bool:
        """Whether vectors that are there are those that this asks for, and are kept so.

        Args:
            there: What they were made of.
            configured: The model that is configured.
        """
        asked, made = (each.settled(configured).to_json() for each in (self, there))
        return all(
            asked.get(name) == made.get(name)
            for name in asked.keys() | made.keys()
            if name not in _NOT_OF_VECTORS
        )


def read_vectors(said: Any) -> dict[str, NamedVector]:
    """Read what a user said of further vectors.

    Args:
        said: By name, columns, `NamedVector` or its fields.

    Raises:
        ValueError: For a name that another vector has, and for what cannot work.
    """
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise ValueError(  # noqa: TRY004
            f"`vectors` must name columns by vector, say {{'title': ['title']}}. It is {said!r}."
        )
    vectors = {}
    for name, each in said.items():
        _refuse_name(name)
        try:
            vectors[name] = NamedVector.of(each)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`vectors[{name!r}]` {error}.") from error
    return vectors


def _refuse_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"`vectors` has the name {name!r}. A name has letters, digits, `_` and `-`."
        )
    if name == KEYWORD_VECTOR:
        raise ValueError(
            f"`vectors` has the name {name!r}, which the vector of keywords has. Take another one."
        )
    if name.startswith(VECTOR_NAME_PREFIX):
        raise ValueError(
            f"`vectors` has the name {name!r}. Names that begin with `{VECTOR_NAME_PREFIX}` are "
            "those of main vectors, of the columns of `embed`. Take another one."
        )


def _plain_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a vector as plain data, as Qdrant's REST interface takes it."""
    from qdrant_client import models

    usual = {"size": 1, "distance": models.Distance.COSINE}
    plain = {
        name: value.model_dump(mode="json", exclude_none=True)
        if hasattr(value, "model_dump")
        else value
        for name, value in given.items()
    }
    try:
        read = models.VectorParams.model_validate(usual | plain)
    except ValueError as error:
        errors: list[Any] = getattr(error, "errors", list)()
        where = ".".join(map(str, errors[0]["loc"])) if errors else ""
        why = f"{errors[0]['input']!r}. {errors[0]['msg']}" if errors else str(error)
        raise ValueError(f"has `{where}` {why}") from error
    if read.datatype == models.Datatype.UINT8:
        raise ValueError(
            "asks for the datatype 'uint8', whole numbers from 0 to 255, and models make numbers "
            "between -1 and 1, which would all become 0. Use 'float16', or a `quantization_config`"
        )
    dumped = read.model_dump(mode="json", exclude_none=True)
    return {name: dumped[name] for name in given if name in dumped}
