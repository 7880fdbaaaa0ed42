"""A row on its way to become a point, with the fingerprints that tell whether it changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dagster_qdrant.destination.tables.payload_indexes import as_number
from dagster_qdrant.destination.tables.point_ids import canonical_json
from dagster_qdrant.destination.tables.table_plan import (
    EMBEDDING_HASH,
    KEYWORDS_HASH,
    ROW_HASH,
    TablePlan,
    hash_field,
)

if TYPE_CHECKING:
    from dagster_qdrant.embedding.options import EmbeddingOptions


@dataclass(frozen=True)
class Fingerprints:
    """What the vectors of a table's rows depend on, beside their texts.

    Args:
        main: That of the main vector.
        named: Those of the further ones, by name.
    """

    main: str
    named: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: TablePlan, embedding: EmbeddingOptions) -> Fingerprints:
        """Those of a table's vectors.

        Args:
            plan: How rows of the table become points.
            embedding: The model that is configured.
        """
        named = {name: each.options(embedding).fingerprint for name, each in plan.vectors.items()}
        return cls(embedding.fingerprint, named)


@dataclass(slots=True)
class Row:
    """A row on its way to become a point."""

    payload: dict[str, Any]
    identity: Any  # what tells it from other rows
    point_id: str
    text: str | None
    row_hash: str
    hashes: Mapping[str, str | None]  # the fingerprints of its texts, by payload field
    size: int  # of its JSON, in bytes
    keywords: str | None  # the text whose keywords count
    texts: Mapping[str, str]  # of further vectors, by name
    vector: Any = None

    @classmethod
    def of(
        cls,
        payload: dict[str, Any],
        plan: TablePlan,
        made_by: Fingerprints,
        *,
        size: int,
        identity: Any = None,
        point_id: str | None = None,
    ) -> Row:
        """Make a row of a payload.

        Args:
            payload: All that is known of it.
            plan: How rows of its table become points.
            made_by: What its vectors depend on, beside its texts.
            size: Of its JSON, in bytes.
            identity: What tells it from other rows. Default: its content.
            point_id: Its point's id. Default: the one that follows from its identity.
        """
        content = content_of(payload, plan)
        identity = content if identity is None else identity
        if plan.numbers:  # the id stays what it was
            there = payload.keys() & set(plan.numbers)
            payload.update({name: as_number(payload[name]) for name in there})
            content = content_of(payload, plan)
        text = keywords = embedding_text(payload, plan.embed, plan.variants)
        keywords_hash = None
        if plan.keywords is None:
            keywords = None
        elif plan.keywords.model or plan.keywords.columns != plan.embed:
            of = [*filter(None, [plan.keywords.model]), plan.keywords.columns]
            keywords = embedding_text(payload, plan.keywords.columns, plan.variants)
            keywords_hash = keywords and digest(canonical_json([*of, keywords]))
        text_json = text and _text_json(made_by.main, plan.embed, text)
        hashes = {
            EMBEDDING_HASH: text_json and digest(text_json),
            KEYWORDS_HASH: keywords_hash,
        }
        texts = _further_texts(payload, plan, made_by, hashes) if plan.vectors else _NO_TEXTS
        return cls(
            payload=payload,
            identity=identity,
            point_id=point_id or plan.point_id(identity),
            text=text,
            row_hash=digest(canonical_json(content)),
            hashes=hashes,
            size=size,
            keywords=keywords,
            texts=texts,
        )

    @property
    def has_text(self) -> bool:
        """Whether any of its vectors that models make has a text."""
        return self.text is not None or bool(self.texts)

    def set_hashes(self) -> None:
        """Write the fingerprints into the payload, and none of what it was before."""
        payload = self.payload
        payload[ROW_HASH] = self.row_hash
        for name, value in self.hashes.items():
            if value:
                payload[name] = value
            else:
                payload.pop(name, None)

    def has_vectors_of(self, known: Mapping[str, Any]) -> bool:
        """Whether a point's vectors are this row's, by the fingerprints in its payload."""
        return all(known.get(name) == value for name, value in self.hashes.items())


_NO_TEXTS: Mapping[str, str] = MappingProxyType({})


def _further_texts(
    payload: Mapping[str, Any],
    plan: TablePlan,
    made_by: Fingerprints,
    hashes: dict[str, str | None],
) -> Mapping[str, str]:
    """The texts of a row's further vectors that have one; the fingerprints of all are added."""
    texts: dict[str, str] = {}
    for name, vector in plan.vectors.items():
        text = embedding_text(payload, vector.columns, plan.variants)
        hashes[hash_field(name)] = None
        if text is not None:
            texts[name] = text
            made_of = [made_by.named[name], vector.columns, text]
            hashes[hash_field(name)] = digest(canonical_json(made_of))
    return texts


def content_of(payload: Mapping[str, Any], plan: TablePlan) -> dict[str, Any]:
    """What of a row counts: all but what dlt makes anew for each load, and what is added here."""
    others = plan.without_content
    return {name: value for name, value in payload.items() if name not in others}


def is_deleted(mark: Any) -> bool:
    """Whether a value of a `hard_delete` column deletes its row."""
    # dlt's rule: a boolean deletes when it is true, any other value when it is not NULL.
    return mark if isinstance(mark, bool) else mark is not None


def embedding_text(
    payload: Mapping[str, Any],
    columns: Sequence[str],
    variants: Mapping[str, Sequence[str]],
) -> str | None:
    """The text of a row that is embedded, or None if it has none.

    Args:
        payload: The row.
        columns: The columns whose text counts.
        variants: By column, the columns in which its values of other types are.

    Returns:
        The texts of the columns joined by line breaks, without NULLs and blanks.
    """
    if not columns:
        return None
    texts = []
    for column in columns:
        for name in (column, *variants.get(column, ())):
            if (value := payload.get(name)) is not None and (text := str(value)).strip():
                texts.append(text)
    return "\n".join(texts) or None


def what_is_there(payload: Mapping[str, Any], plan: TablePlan) -> str:
    """What a row without text has in the place of one; names of columns alone."""
    columns = plan.text_columns
    blank = [name for name in columns if payload.get(name) is not None]
    absent = [name for name in columns if name not in blank]
    others = sorted(payload.keys() - plan.without_content - set(columns))
    seen = [
        f"{' and '.join(f'`{name}`' for name in names)} {what}"
        for names, what in ((absent, "missing or NULL"), (blank, "blank"))
        if names
    ]
    return f"{', '.join(seen)}, beside {', '.join(f'`{name}`' for name in others) or 'nothing'}"


def _text_json(embedding: str, columns: tuple[str, ...], text: str) -> str:
    """`canonical_json([embedding, columns, text])`, of which the text alone differs by row."""
    return f"{_before_text(embedding, columns)}{canonical_json(text)}]"


@lru_cache(maxsize=64)
def _before_text(embedding: str, columns: tuple[str, ...]) -> str:
    return f"{canonical_json([embedding, columns])[:-1]},"


def digest(text: str) -> str:
    """A fingerprint of 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
