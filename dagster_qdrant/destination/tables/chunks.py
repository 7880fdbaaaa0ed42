"""A long text cut into chunks that each fit the model, with nothing lost between them."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from dlt.common.schema.typing import C_DLT_ID

from dagster_qdrant.destination.tables.given_fields import unknown_fields
from dagster_qdrant.destination.tables.text_cuts import cut_text

if TYPE_CHECKING:
    from dlt.common.normalizers.naming import NamingConvention

    from dagster_qdrant.embedding.text_measure import TextMeasure

# The list that a row's chunks are; dlt makes the table `<table>__chunks` of it.
CHUNKS = "chunks"
# The columns of that table. The row's other columns stand beside them, so there are few names, and
# such as rows rarely have.
TEXT, NUMBER, START, END = "text", "chunk_number", "chunk_start", "chunk_end"

# Chunks of some 200 to 256 tokens found most in the collections that were measured, smaller ones
# much less.
_MOST_TOKENS = 256
# A text of fewer characters a token may be one chunk, which is seen faster than cut.
_FEW_CHARACTERS = 8

_KINDS = ("text", "markdown", "code")


# Under this, a collection's metadata has what is unusual of `ChunkNames`.
NAMES = "names"


@dataclass(frozen=True)
class ChunkNames:
    """How a schema writes the names of the columns that all chunks have.

    Args:
        text: A chunk's text.
        number: Its place among the chunks of its row.
        start: Where it begins in the row's text.
        end: The place of the first character after it.
        row_id: dlt's own id of a row.
        parent_id: dlt's link from a chunk to its row.
        list_index: The chunk's place in the list that its row has.
    """

    text: str = TEXT
    number: str = NUMBER
    start: str = START
    end: str = END
    row_id: str = C_DLT_ID
    parent_id: str = "_dlt_parent_id"
    list_index: str = "_dlt_list_idx"

    @classmethod
    def of(cls, naming: NamingConvention) -> ChunkNames:
        """The names by a convention."""
        usual = [field.default for field in fields(cls)]
        return cls(*(naming.normalize_identifier(str(name)) for name in usual))

    @classmethod
    def read(cls, about: Mapping[str, Any]) -> ChunkNames:
        """Those that a collection's metadata tells."""
        return cls(**about.get(NAMES, {}))

    def to_json(self) -> dict[str, str]:
        """Those that are unusual, for a collection's metadata."""
        return {
            field.name: name
            for field in fields(self)
            if (name := getattr(self, field.name)) != field.default
        }

    def columns(self, chunk: Chunk) -> dict[str, Any]:
        """What a chunk's own columns are."""
        columns = {
            self.text: chunk.text,
            self.number: chunk.number,
            self.start: chunk.start,
            self.end: chunk.end,
        }
        return {name: value for name, value in columns.items() if value is not None}


class _Splitter(Protocol):
    def chunk_indices(self, text: str) -> Sequence[tuple[int, str]]: ...


@dataclass(frozen=True)
class Chunk:
    """A part of a text.

    Args:
        text: It.
        number: Its place among the text's chunks, from 0.
        start: Where it begins in the text, in characters; None if it is no part of it, say since a
            user's function changed it.
        end: The place of the first character after it.
    """

    text: str
    number: int
    start: int | None
    end: int | None

    def __bool__(self) -> bool:
        """Whether it says anything: a splitter leaves white space that stands alone."""
        return bool(self.text.strip())


@dataclass(frozen=True)
class Chunking:
    """How long texts are cut into chunks.

    Args:
        tokens: The most tokens in a chunk. Default: as many as the model takes, at most 256.
        overlap: How many tokens at the end of a chunk stand at the beginning of the next one too.
        kind: "text" is cut between paragraphs and sentences, "markdown" between sections, "code"
            between definitions.
        language: The language of code, whose grammar is the package `tree-sitter-<language>`.
        function: What cuts texts instead: a function that makes a list of texts of one. (Where it
            is read from a schema, its name.)

    Raises:
        ValueError: For values that cannot work.

    Examples:
        >>> Chunking(tokens=200, overlap=20, kind="markdown").tokens
        200
    """

    tokens: int | None = None
    overlap: int = 0
    kind: str = "text"
    language: str | None = None
    function: Callable[[str], Sequence[str]] | str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work or would be ignored."""
        if self.kind not in _KINDS:
            close = difflib.get_close_matches(str(self.kind), _KINDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise ValueError(
                f"`chunk` has the kind {self.kind!r}; it must be 'text', 'markdown' or 'code'."
                f"{hint}"
            )
        for name, least in (("tokens", 1), ("overlap", 0)):
            value = getattr(self, name)
            if value is None and name == "tokens":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"`chunk` has {name} {value!r}; it must be {least} or more.")
        if self.overlap >= (self.tokens or _MOST_TOKENS):
            raise ValueError(
                f"`chunk` has an overlap of {self.overlap} tokens; it must be less than the tokens "
                f"of a chunk, {self.tokens or _MOST_TOKENS}."
            )
        if (self.kind == "code") != (self.language is not None):
            raise ValueError(
                "`chunk` needs a `language` for code, say 'python', and takes none for texts."
            )
        beside = self.tokens or self.overlap or self.language or self.kind != "text"
        if self.function is not None and beside:
            raise ValueError("`chunk` has a function that cuts texts; it takes nothing beside it.")

    @classmethod
    def of(cls, said: Any) -> Chunking | None:
        """Read what a user said: True, a number of tokens, a kind, a function, fields; or nothing.

        Raises:
            TypeError: If it is something else.
            ValueError: If there is no such field, or a value cannot work.
        """
        if said is None or said is False:
            return None
        if isinstance(said, Chunking):
            return said
        if said is True:
            return cls()
        if isinstance(said, int):
            return cls(tokens=said)
        if isinstance(said, str):
            return cls(kind=said)
        if isinstance(said, Mapping):
            if wrong := unknown_fields(said, cls):
                raise ValueError(f"`chunk` {wrong}.")
            return cls(**said)
        if callable(said):
            return cls(function=said)
        raise TypeError(
            f"`chunk` is {said!r}; it must be True, a number of tokens, 'markdown', a function "
            "that cuts a text, or `Chunking(...)`."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data, for hints and for a collection's metadata; a function by its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        said = {name: value for name, value in values.items() if value is not None}
        function = said.get("function")
        if callable(function):
            name = getattr(function, "__qualname__", type(function).__qualname__)
            said["function"] = f"{getattr(function, '__module__', '?')}.{name}"
        return said

    def of_text(self, text: str, measure: TextMeasure | None) -> Iterator[Chunk]:
        """Cut a text. Without an overlap, the chunks side by side are the text.

        Args:
            text: The text.
            measure: How long texts are for the model; a function needs none.

        Raises:
            TypeError: If a user's function gives something else than texts.
            ValueError: If the grammar of a language is not installed, or chunks are to have more
                tokens than the model takes.
        """
        if callable(self.function):
            yield from _of_function(self.function, text)
            return
        if measure is None:
            raise ValueError("A text is cut by the length that it has for a model.")
        most = self._most(measure)
        parts: Sequence[tuple[int, str]] = [(0, text)]
        if len(text) > most * _FEW_CHARACTERS or measure(text) > most:
            parts = (
                list(cut_text(text, measure, most, self.overlap))
                if self.kind == "text"
                else _splitter(self, measure, most).chunk_indices(text)
            )
        for number, (start, part) in enumerate(parts):
            yield Chunk(part, number, start, start + len(part))

    def _most(self, measure: TextMeasure) -> int:
        """The most tokens of a chunk for a model."""
        if self.tokens and measure.window and self.tokens > measure.window:
            raise ValueError(
                f"`chunk` asks for chunks of {self.tokens} tokens, and the model takes "
                f"{measure.window} of a text. Ask for fewer, or take a model with a larger window."
            )
        most = self.tokens or min(measure.window or _MOST_TOKENS, _MOST_TOKENS)
        if self.overlap >= most:
            raise ValueError(
                f"`chunk` has an overlap of {self.overlap} tokens, and the model takes {most} of "
                "a text. Ask for less."
            )
        return most


def _of_function(function: Callable[[str], Sequence[str]], text: str) -> Iterator[Chunk]:
    """The chunks that a user's function makes, with their places if they stand in the text."""
    parts, after = function(text), 0
    if isinstance(parts, str):
        raise TypeError("`chunk` is a function that gave one text; it must give a list of texts.")
    for number, part in enumerate(parts):
        if not isinstance(part, str):
            raise TypeError(
                f"`chunk` is a function that gave a {type(part).__name__}; it must give texts."
            )
        start: int | None = text.find(part, after)
        if start == -1:  # it may overlap the one before
            start = found if (found := text.find(part)) >= 0 else None
        after = after if start is None else start + 1
        yield Chunk(part, number, start, None if start is None else start + len(part))


@lru_cache(maxsize=16)
def _splitter(chunking: Chunking, measure: TextMeasure, most: int) -> _Splitter:
    import semantic_text_splitter

    kinds = {
        "markdown": semantic_text_splitter.MarkdownSplitter,
        "code": semantic_text_splitter.CodeSplitter,
    }
    first = () if chunking.language is None else (_grammar(chunking.language),)
    how: dict[str, Any] = {"overlap": chunking.overlap, "trim": False}
    kind: Any = kinds[chunking.kind]
    splitter: _Splitter = (
        kind.from_callback(*first, measure, most, **how)
        if measure.tokenizer is None
        else kind.from_huggingface_tokenizer(*first, measure.tokenizer, most, **how)
    )
    return splitter


def _grammar(language: str) -> Any:
    name = language.lower().replace("-", "_")
    try:
        return importlib.import_module(f"tree_sitter_{name}").language()
    except ImportError as error:
        raise ValueError(
            f"`chunk` cuts {language!r}, whose grammar is not installed: "
            f"`pip install tree-sitter-{name.replace('_', '-')}`."
        ) from error
