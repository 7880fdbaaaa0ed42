"""A row on its way to become a point, with the fingerprints that tell whether it changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
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


@dataclass
class Row:
    """A row on its way to become a point."""

    payload: dict[str, Any]
    identity: Any  # what tells it from other rows
    point_id: str
    text: str | None
    row_hash: str
    embedding_hash: str | None
    size: int  # of its JSON, in bytes
    keywords: str | None = None  # the text whose keywords count
    keywords_hash: str | None = None  # of that text, where it is not the one that is embedded
    vector: Any = None
    texts: Mapping[str, str] = field(default_factory=dict)  # of further vectors, by name
    hashes: Mapping[str, str | None] = field(default_factory=dict)  # and their fingerprints

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
        texts, hashes = _further_texts(payload, plan, made_by) if plan.vectors else ({}, {})
        return cls(
            payload=payload,
            identity=identity,
            point_id=point_id or plan.point_id(identity),
            text=text,
            row_hash=digest(canonical_json(content)),
            embedding_hash=(
                None if text is None else digest(_text_json(made_by.main, plan.embed, text))
            ),
            keywords=keywords,
            keywords_hash=keywords_hash,
            size=size,
            texts=texts,
            hashes=hashes,
        )

    @property
    def _text_hashes(self) -> dict[str, str | None]:
        hashes = {EMBEDDING_HASH: self.embedding_hash, KEYWORDS_HASH: self.keywords_hash}
        return hashes | {hash_field(name): value for name, value in self.hashes.items()}

    @property
    def has_text(self) -> bool:
        """Whether any of its vectors that models make has a text."""
        return self.text is not None or bool(self.texts)

    def set_hashes(self) -> None:
        """Write the fingerprints into the payload, and none of what it was before."""
        self.payload[ROW_HASH] = self.row_hash
        for name, value in self._text_hashes.items():
            self.payload.pop(name, None)
            if value:
                self.payload[name] = value

    def has_vectors_of(self, known: Mapping[str, Any]) -> bool:
        """Whether a point's vectors are this row's, by the fingerprints in its payload."""
        return all(known.get(name) == value for name, value in self._text_hashes.items())


def _further_texts(
    payload: Mapping[str, Any], plan: TablePlan, made_by: Fingerprints
) -> tuple[dict[str, str], dict[str, str | None]]:
    """The texts of a row's further vectors that have one, and the fingerprints of all."""
    texts: dict[str, str] = {}
    hashes: dict[str, str | None] = {}
    for name, vector in plan.vectors.items():
        text = embedding_text(payload, vector.columns, plan.variants)
        hashes[name] = None
        if text is not None:
            texts[name] = text
            hashes[name] = digest(canonical_json([made_by.named[name], vector.columns, text]))
    return texts, hashes


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
