"""How long a text is for a model, told without loading more than the model's tokenizer."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dagster_qdrant.embedding.embedder import load_embedder
from dagster_qdrant.embedding.local_files import tokenizer_folder
from dagster_qdrant.embedding.options import EmbeddingOptions, is_static
from dagster_qdrant.errors import EmbeddingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# A token of a model that nobody has here is taken for so many bytes of text: some four letters of
# English, or hardly more than a sign of Chinese.
BYTES_OF_TOKEN = 4

_guard = threading.Lock()


@dataclass(frozen=True, eq=False)
class TextMeasure:
    """How long texts are for a model.

    Args:
        tokenizer: The model's, which neither cuts nor pads. None: it is a service's, and tokens
            are reckoned from bytes.
        window: The most tokens of a text that the model takes, beside those that it puts round each
            text and its prefix. None: any number, or nobody knows.
    """

    tokenizer: Tokenizer | None
    window: int | None

    def __call__(self, text: str) -> int:
        """The number of tokens of a text."""
        if self.tokenizer is None:
            return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_OF_TOKEN)
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def token_starts(self, text: str) -> list[int]:
        """Where each token of a text begins, in characters."""
        if self.tokenizer is not None:
            return [
                start for start, _ in self.tokenizer.encode(text, add_special_tokens=False).offsets
            ]
        size, starts = 0, list[int]()
        for place, character in enumerate(text):
            if size % BYTES_OF_TOKEN == 0 or size // BYTES_OF_TOKEN >= len(starts):
                starts.append(place)
            size += len(character.encode("utf-8", "surrogatepass"))
        return starts


def text_measure(options: EmbeddingOptions) -> TextMeasure:
    """How long texts are for a model. A process reads its tokenizer once.

    Args:
        options: The model, its prefixes, and where its files are.

    Raises:
        EmbeddingError: If the model is not known, or its files cannot be had.
        EmbeddingServiceError: If a service cannot be reached, or fails.
    """
    with _guard:
        return _measure(options)


@lru_cache(maxsize=8)
def _measure(options: EmbeddingOptions) -> TextMeasure:
    prefix = options.prefixes.passage
    if options.service:
        measure = TextMeasure(None, None)
        window = load_embedder(options).max_tokens
        # What a service puts round a text is not known; two tokens are usual.
        return TextMeasure(None, window and max(1, window - 2 - measure(prefix)))
    folder = tokenizer_folder(options)
    if folder is None:  # to be downloaded with the rest
        load_embedder(options)
        folder = tokenizer_folder(options)
    if folder is None:
        raise EmbeddingError(
            f"The model {options.model!r} has no `tokenizer.json` among its files, by which texts "
            "could be cut into chunks. Give `chunk` a function that cuts them."
        )
    tokenizer, window = _read(folder, static=is_static(options))
    around = 0 if is_static(options) else tokenizer.num_special_tokens_to_add(False)
    measure = TextMeasure(tokenizer, None)
    return TextMeasure(tokenizer, window and max(1, window - around - measure(prefix)))


def _read(folder: Path, *, static: bool) -> tuple[Tokenizer, int | None]:
    """A tokenizer that neither cuts nor pads, and how many tokens its model takes."""
    from fastembed.common.preprocessor_utils import load_tokenizer
    from fastembed.text.static_embedding import load_static_tokenizer

    try:
        tokenizer, _ = load_static_tokenizer(folder) if static else load_tokenizer(folder)
    except Exception as error:  # whatever is wrong in its files
        raise EmbeddingError(f"The tokenizer in {folder} cannot be read: {error}") from error
    window = (tokenizer.truncation or {}).get("max_length")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, window
