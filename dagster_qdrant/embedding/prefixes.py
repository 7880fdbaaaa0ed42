"""What models want to stand before a text, so that questions and passages meet."""

from __future__ import annotations

from typing import NamedTuple


class Prefixes(NamedTuple):
    """What stands before a text that is embedded.

    Args:
        query: Before what somebody searches for.
        passage: Before what is found.
    """

    query: str = ""
    passage: str = ""


_SENTENCE = Prefixes(query="Represent this sentence for searching relevant passages: ")
_NOMIC = Prefixes(query="search_query: ", passage="search_document: ")
_QWEN = Prefixes(
    query="Instruct: Given a web search query, retrieve relevant passages that answer the query\n"
    "Query:"
)
# From each model's card on the hub, where its makers say how to retrieve with it; for many of them
# also in the `prompts` of its config_sentence_transformers.json. Other models of fastembed's list
# ask for none, or fastembed tells questions from passages itself (jina-embeddings-v3).
_OF_MAKERS = {
    "baai/bge-base-en": _SENTENCE,
    "baai/bge-base-en-v1.5": _SENTENCE,
    "baai/bge-large-en-v1.5": _SENTENCE,
    "baai/bge-small-en": _SENTENCE,
    "baai/bge-small-en-v1.5": _SENTENCE,
    "baai/bge-small-zh-v1.5": Prefixes(query="为这个句子生成表示以用于检索相关文章："),  # noqa: RUF001
    "google/embeddinggemma-300m": Prefixes(
        query="task: search result | query: ", passage="title: none | text: "
    ),
    "intfloat/multilingual-e5-large": Prefixes(query="query: ", passage="passage: "),
    "mixedbread-ai/mxbai-embed-large-v1": _SENTENCE,
    "nomic-ai/nomic-embed-text-v1": _NOMIC,
    "nomic-ai/nomic-embed-text-v1.5": _NOMIC,
    "nomic-ai/nomic-embed-text-v1.5-q": _NOMIC,
    "qdrant/stella-en-400m-v5-doc-onnx": Prefixes(
        query="Instruct: Given a web search query, retrieve relevant passages that answer the "
        "query.\nQuery: "
    ),
    "qwen/qwen3-embedding-0.6b": _QWEN,
    "qwen/qwen3-embedding-0.6b-q": _QWEN,
    "snowflake/snowflake-arctic-embed-l": _SENTENCE,
    "snowflake/snowflake-arctic-embed-m": _SENTENCE,
    "snowflake/snowflake-arctic-embed-m-long": _SENTENCE,
    "snowflake/snowflake-arctic-embed-s": _SENTENCE,
    "snowflake/snowflake-arctic-embed-xs": _SENTENCE,
}


def prefixes_of_makers(model: str) -> Prefixes:
    """The prefixes that a model's makers ask for; empty ones if they ask for none.

    Example:
        >>> prefixes_of_makers("intfloat/multilingual-e5-large")
        Prefixes(query='query: ', passage='passage: ')
    """
    return _OF_MAKERS.get(model.lower(), Prefixes())
