"""What somebody set on a collection by hand stays when another one takes its place."""

from collections.abc import Callable
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from qdrant_client import QdrantClient, models

from dagster_qdrant import QdrantResource, QdrantTransientError, qdrant_adapter
from dagster_qdrant.destination.generations.generations import Generations
from tests.targets import Target

FILMS = [{"id": n, "title": f"film {n}", "plot": "what happens"} for n in range(4)]
VECTOR = "fast-all-minilm-l6-v2"

Loaded = Callable[..., None]


@pytest.fixture
def loaded(qdrant_target: Target, model: dict[str, Any], dataset: str, tmp_path) -> Loaded:
    def load(rows: Any = FILMS, embed: Any = "title", **options: Any) -> None:
        options = {"abandoned_after": 1.0, "replace_strategy": "swap", **options}
        pipeline = dlt.pipeline(
            "films",
            destination=QdrantResource(**qdrant_target.options | model | options).destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / str(len(list(tmp_path.iterdir())))),  # a new machine
        )
        films = dlt.resource(rows, name="films", write_disposition="replace")
        pipeline.run(qdrant_adapter(films, embed=embed))

    return load


def aliases(client: QdrantClient, dataset: str) -> dict[str, str]:
    return {
        alias.alias_name.removeprefix(f"{dataset}_"): alias.collection_name.removeprefix(
            f"{dataset}_"
        )
        for alias in client.get_aliases().aliases
        if alias.alias_name.startswith(dataset)
    }


def lead(client: QdrantClient, alias: str, collection: str) -> None:
    create = models.CreateAlias(alias_name=alias, collection_name=collection)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])


def on_a_server(qdrant_target: Target) -> None:
    if qdrant_target.kind in ("memory", "path"):
        pytest.skip("Qdrant's local mode has no such settings")


QUANTIZED = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
)
TEXT_INDEX = models.TextIndexParams(
    type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, min_token_len=3
)


@pytest.mark.parametrize("change", ["a swap", "other columns"])
def test_settings_and_indexes_survive(
    loaded: Loaded, qdrant_target: Target, client, dataset, change
):
    on_a_server(qdrant_target)
    loaded()
    name = f"{dataset}_films"
    client.update_collection(
        name,
        hnsw_config=models.HnswConfigDiff(m=32, on_disk=True),
        optimizers_config=models.OptimizersConfigDiff(
            indexing_threshold=5000, max_optimization_threads=2
        ),
        vectors_config={
            VECTOR: models.VectorParamsDiff(
                on_disk=True,
                hnsw_config=models.HnswConfigDiff(ef_construct=321),
                quantization_config=QUANTIZED,
            )
        },
        quantization_config=QUANTIZED,
        collection_params=models.CollectionParamsDiff(
            on_disk_payload=False, replication_factor=2, read_fan_out_factor=1
        ),
        strict_mode_config=models.StrictModeConfig(enabled=True, max_query_limit=20_000),
        metadata={"owner": "team search"},
    )
    client.create_payload_index(name, "title", TEXT_INDEX, wait=True)
    client.create_payload_index(name, "id", models.PayloadSchemaType.INTEGER, wait=True)
    before = client.get_collection(name)

    loaded(FILMS[1:], **({"embed": ["title", "plot"]} if change == "other columns" else {}))

    after = client.get_collection(name)
    metadata = dict(after.config.metadata)
    assert metadata.pop("owner") == "team search"
    assert after.config.params.vectors[VECTOR].quantization_config == QUANTIZED
    unlike = {"metadata": None}
    assert after.config.model_copy(update=unlike) == before.config.model_copy(update=unlike)
    assert after.payload_schema.keys() == before.payload_schema.keys()
    assert after.payload_schema["title"].params == before.payload_schema["title"].params
    assert after.payload_schema["id"].data_type is models.PayloadSchemaType.INTEGER
    assert after.points_count == 3


def test_the_vectors_of_another_model_are_kept_as_the_former_ones(
    loaded: Loaded, qdrant_target: Target, client, dataset, other_model
):
    on_a_server(qdrant_target)
    loaded()
    on_disk = {VECTOR: models.VectorParamsDiff(on_disk=True, quantization_config=QUANTIZED)}
    client.update_collection(f"{dataset}_films", vectors_config=on_disk)
    loaded(**other_model)
    [(name, vector)] = client.get_collection(f"{dataset}_films").config.params.vectors.items()
    assert name == "fast-bge-small-en"
    assert vector.on_disk
    assert vector.quantization_config == QUANTIZED


def test_metadata_of_others_survives(loaded: Loaded, client, dataset):
    loaded()
    client.update_collection(f"{dataset}_films", metadata={"owner": "team search"})
    loaded(embed=["title", "plot"])
    metadata = client.get_collection(f"{dataset}_films").config.metadata
    assert metadata["owner"] == "team search"
    assert metadata["dagster_qdrant"]["embed"] == ["title", "plot"]


def test_aliases_of_others_lead_to_the_new_collection(loaded: Loaded, client, dataset):
    loaded(replace_strategy="in-place")
    lead(client, f"{dataset}_of_the_app", f"{dataset}_films")
    loaded(FILMS[1:])
    lead(client, f"{dataset}_of_a_report", f"{dataset}_films@1")
    expected = {"films", "of_the_app", "of_a_report"}
    assert aliases(client, dataset) == dict.fromkeys(expected, "films@1")
    loaded(FILMS[2:])
    assert aliases(client, dataset) == dict.fromkeys(expected, "films@2")
    assert client.count(f"{dataset}_of_the_app").count == 2


def test_a_former_collection_that_somebody_named_is_not_deleted(loaded: Loaded, client, dataset):
    for rows in (FILMS, FILMS[1:]):
        loaded(rows, keep_former=True)
    lead(client, f"{dataset}_of_last_week", f"{dataset}_films@1")
    for rows in (FILMS[2:], FILMS[3:]):
        loaded(rows)
    assert aliases(client, dataset) == {"films": "films@4", "of_last_week": "films@1"}
    assert client.count(f"{dataset}_of_last_week").count == 4


def test_aliases_of_others_are_made_up_for_after_a_crash_that_took_them(
    loaded: Loaded, client, dataset, monkeypatch
):
    loaded(replace_strategy="in-place")
    lead(client, f"{dataset}_of_the_app", f"{dataset}_films")
    original = Generations.__init__

    def dies(self: Any, collections: Any) -> None:
        original(self, collections)
        request = self._request

        def deadly(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if "change_aliases_operations" in kwargs:
                raise QdrantTransientError("an interruption")
            return request(operation, *args, **kwargs)

        self._request = deadly

    with monkeypatch.context() as patched:
        patched.setattr(Generations, "__init__", dies)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            loaded(FILMS[1:])
    assert aliases(client, dataset) == {}
    loaded(FILMS[2:])
    assert aliases(client, dataset) == dict.fromkeys(("films", "of_the_app"), "films@2")
    assert client.count(f"{dataset}_of_the_app").count == 2
