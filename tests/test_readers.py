"""Collections are read by other libraries, as they are."""

import asyncio
from functools import partial

import dlt
import pytest
from qdrant_client import models

from dagster_qdrant import QdrantResource, QdrantTerminalError, qdrant_adapter
from tests.conftest import Load

FILMS = [
    {"document": "a hunter of androids in a rainy city", "metadata": {"year": 1982}},
    {"document": "a baker who falls in love in Paris", "metadata": {"year": 2001}},
    {"document": "a crew that mines the moon", "metadata": {"year": 2009}},
]
DENSE = "fast-all-minilm-l6-v2"
ANDROIDS, PARIS, MOON = (film["document"] for film in FILMS)


@pytest.fixture
def films(load: Load, dataset: str) -> str:
    rows = dlt.resource(FILMS, name="films", columns={"metadata": {"data_type": "json"}})
    load(qdrant_adapter(rows, embed="document", keywords=True))
    return f"{dataset}_films"


@pytest.fixture
def question(resource: QdrantResource, dataset: str):
    return partial(resource.query_vectors, dataset, "films")


@pytest.fixture
def client(resource: QdrantResource):
    with resource.get_client() as client:
        yield client


def test_vectors_of_a_question_are_those_of_a_search(
    films, question, client, resource: QdrantResource, dataset
):
    vectors = question("robots chased through the streets")
    assert set(vectors) == {DENSE, "bm25"}
    [hit] = client.query_points(films, vectors[DENSE], using=DENSE, limit=1).points
    [same] = resource.search(dataset, "Films", "robots chased through the streets", 1, mode="dense")
    assert (hit.payload["document"], hit.score) == (ANDROIDS, pytest.approx(same.score))
    assert set(question("the of")) == {DENSE}  # stopwords alone
    with pytest.raises(QdrantTerminalError, match="no text to search for"):
        question(" ")


def test_langchain_reads_text_and_metadata(films, question, client):
    langchain = pytest.importorskip("langchain_qdrant")
    from langchain_core.embeddings import Embeddings
    from langchain_qdrant.sparse_embeddings import SparseVector

    class Meaning(Embeddings):
        def embed_query(self, text):
            return question(text)[DENSE]

        def embed_documents(self, texts):
            return [self.embed_query(text) for text in texts]

    class Words(langchain.SparseEmbeddings):
        def embed_query(self, text):
            return SparseVector(**question(text)["bm25"].model_dump())

        def embed_documents(self, texts):
            return [self.embed_query(text) for text in texts]

    later = models.FieldCondition(key="metadata.year", range=models.Range(gte=2005))
    for mode in langchain.RetrievalMode:
        store = langchain.QdrantVectorStore(
            client,
            films,
            embedding=Meaning(),
            vector_name=DENSE,
            sparse_embedding=Words(),
            sparse_vector_name="bm25",
            retrieval_mode=mode,
            content_payload_key="document",
        )
        [found] = store.similarity_search("a hunter of robots", k=1)
        assert (found.page_content, found.metadata["year"]) == (ANDROIDS, 1982), mode
    found = store.similarity_search("androids", k=3, filter=models.Filter(must=[later]))
    assert [document.page_content for document in found] == [MOON]


def test_llama_index_reads_text_and_payload(films, question, client):
    llama = pytest.importorskip("llama_index.vector_stores.qdrant")
    from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, VectorStoreQuery
    from llama_index.core.vector_stores.types import VectorStoreQueryMode

    def words(texts):
        vectors = [question(text)["bm25"] for text in texts]
        return [vector.indices for vector in vectors], [vector.values for vector in vectors]

    names = {"text_key": "document", "dense_vector_name": DENSE, "sparse_vector_name": "bm25"}
    dense = llama.QdrantVectorStore(films, client=client, **names)
    hybrid = llama.QdrantVectorStore(
        films,
        client=client,
        enable_hybrid=True,
        sparse_doc_fn=words,
        sparse_query_fn=words,
        **names,
    )
    asked = partial(
        VectorStoreQuery,
        query_embedding=question("a hunter of robots")[DENSE],
        query_str="a hunter of robots",
        similarity_top_k=1,
    )
    for store, mode in ((dense, "default"), (hybrid, "sparse"), (hybrid, "hybrid")):
        [node] = store.query(asked(mode=VectorStoreQueryMode(mode))).nodes
        assert (node.text, node.metadata["metadata"]["year"]) == (ANDROIDS, 1982), mode
    of_2001 = MetadataFilters(filters=[MetadataFilter(key="metadata.year", value=2001)])
    assert [node.text for node in dense.query(asked(filters=of_2001)).nodes] == [PARIS]


@pytest.fixture
def haystack_store(resource: QdrantResource, dataset: str):
    haystack = pytest.importorskip("haystack_integrations.document_stores.qdrant")
    from haystack.utils import Secret

    return haystack.QdrantDocumentStore(
        url=resource.location,
        api_key=Secret.from_token(resource.api_key),
        index=f"{dataset}_films",
        embedding_dim=384,
        use_sparse_embeddings=True,
    )


def test_haystack_reads_a_vector_of_the_name_that_it_looks_for(
    load: Load, haystack_store, resource: QdrantResource, dataset
):
    from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever

    rows = [{"content": row["document"], "year": row["metadata"]["year"]} for row in FILMS]
    load(qdrant_adapter(dlt.resource(rows, name="films"), vectors={"text-dense": "content"}))
    asked = "robots chased through the streets"
    question = resource.query_vectors(dataset, "films", asked, using="text-dense")
    retriever = QdrantEmbeddingRetriever(haystack_store, top_k=1)
    [document] = retriever.run(question["text-dense"])["documents"]
    assert (document.content, document.meta["year"]) == (ANDROIDS, 1982)


@pytest.mark.usefixtures("films")
def test_haystack_refuses_vectors_of_other_names(haystack_store):
    from haystack_integrations.document_stores.qdrant import document_store

    with pytest.raises(document_store.QdrantStoreError, match="outside of Haystack"):
        haystack_store.count_documents()


def test_chunks_are_read_as_documents_of_their_own(load: Load, client, resource, dataset):
    llama = pytest.importorskip("llama_index.vector_stores.qdrant")
    from llama_index.core.vector_stores import VectorStoreQuery

    text = "Mars is red. " * 90 + "It has two moons."
    rows = dlt.resource([{"body": text, "planet": "Mars"}], name="films")
    load(qdrant_adapter(rows, embed="body", chunk=100))
    vectors = resource.query_vectors(dataset, "films", "a planet with two moons")
    store = llama.QdrantVectorStore(
        f"{dataset}_films__chunks", client=client, dense_vector_name=DENSE
    )
    [node] = store.query(VectorStoreQuery(vectors[DENSE], similarity_top_k=1)).nodes
    assert "It has two moons." in node.text
    assert len(node.text) < len(text)
    assert node.metadata["planet"] == "Mars"


@pytest.mark.filterwarnings("ignore")
def test_an_mcp_server_finds_documents(films, model, resource: QdrantResource, monkeypatch):
    pytest.importorskip("mcp_server_qdrant")
    from fastembed import TextEmbedding
    from fastmcp import Client

    loaded = partial(TextEmbedding, specific_model_path=model["model_path"])
    monkeypatch.setattr("mcp_server_qdrant.embeddings.fastembed.TextEmbedding", loaded)
    monkeypatch.setenv("QDRANT_URL", resource.location)
    monkeypatch.setenv("QDRANT_API_KEY", resource.api_key)
    monkeypatch.setenv("COLLECTION_NAME", films)
    monkeypatch.setenv("QDRANT_READ_ONLY", "true")
    from mcp_server_qdrant.mcp_server import QdrantMCPServer
    from mcp_server_qdrant.settings import EmbeddingProviderSettings, QdrantSettings, ToolSettings

    async def found() -> tuple[list[str], list[str]]:
        settings = (ToolSettings(), QdrantSettings(), EmbeddingProviderSettings())
        async with Client(QdrantMCPServer(*settings)) as mcp:
            tools = [tool.name for tool in await mcp.list_tools()]
            return tools, (
                await mcp.call_tool("qdrant-find", {"query": "robots chased through the streets"})
            ).data

    tools, [_, first, *others] = asyncio.run(found())
    assert tools == ["qdrant-find"]  # nothing that writes
    assert ANDROIDS in first
    assert '"year": 1982' in first
    assert len(others) == 2
