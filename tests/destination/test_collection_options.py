"""A collection is set up as the resource asks for it."""

from typing import Any

import dagster as dg
import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from qdrant_client import models

from dagster_qdrant import build_qdrant_assets, qdrant_adapter
from tests.conftest import Load
from tests.destination.conftest import loaded
from tests.targets import Target, shared_server

ROWS = [{"id": 1, "title": "Moon"}, {"id": 2, "title": "Amelie"}]
QUANTIZED: Any = {"scalar": {"type": "int8", "always_ram": True}}


def films(rows: Any = ROWS, disposition: str = "merge", embed: Any = "title", **asked: Any) -> Any:
    resource = dlt.resource(rows, name="films", write_disposition=disposition, primary_key="id")
    return qdrant_adapter(resource, embed=embed, collection=asked)


@pytest.fixture
def on_a_server(qdrant_target: Target) -> None:
    if qdrant_target.kind in ("memory", "path"):
        pytest.skip("Qdrant's local mode has no such settings")


def config(client: Any, dataset: str, table: str = "films") -> Any:
    return client.get_collection(f"{dataset}_{table}").config


def vector(client: Any, dataset: str, table: str = "films") -> Any:
    [vector] = config(client, dataset, table).params.vectors.values()
    return vector


@pytest.mark.usefixtures("on_a_server")
class TestOnAServer:
    @pytest.mark.parametrize("as_models", [True, False], ids=["models", "dicts"])
    def test_a_collection_is_made_as_it_is_asked_for(self, load: Load, client, dataset, as_models):
        asked: dict[str, Any] = {
            "hnsw_config": models.HnswConfigDiff(m=24, payload_m=8),
            "optimizers_config": models.OptimizersConfigDiff(indexing_threshold=5000),
            "wal_config": models.WalConfigDiff(wal_capacity_mb=64),
            "strict_mode_config": models.StrictModeConfig(enabled=True, max_query_limit=50),
            "quantization_config": models.ScalarQuantization.model_validate(QUANTIZED),
        }
        if not as_models:
            asked = {name: model.model_dump(exclude_none=True) for name, model in asked.items()}
        rest: Any = {
            "shard_number": 2,
            "replication_factor": 2,
            "write_consistency_factor": 1,
            "on_disk_payload": False,
            "distance": "Dot",
            "datatype": "float16",
            "on_disk": True,
        }
        load(films(**asked, **rest))
        made = config(client, dataset)
        params = made.params
        assert (made.hnsw_config.m, made.hnsw_config.payload_m) == (24, 8)
        assert made.optimizer_config.indexing_threshold == 5000
        assert made.wal_config.wal_capacity_mb == 64
        assert made.strict_mode_config.max_query_limit == 50
        assert made.quantization_config.scalar.always_ram
        assert (params.shard_number, params.replication_factor) == (2, 2)
        assert (params.write_consistency_factor, params.on_disk_payload) == (1, False)
        of_vector = vector(client, dataset)
        assert (of_vector.distance, of_vector.datatype) == ("Dot", "float16")
        assert of_vector.on_disk

    def test_settings_change_in_place_and_nobodys_stay(self, load: Load, client, dataset):
        load(films(hnsw_config={"m": 24}))
        by_hand = models.HnswConfigDiff(ef_construct=321)
        client.update_collection(f"{dataset}_films", hnsw_config=by_hand)
        load(
            films(
                hnsw_config={"m": 32},
                optimizers_config={"indexing_threshold": 5000},
                strict_mode_config={"enabled": True, "max_query_limit": 50},
                quantization_config=QUANTIZED,
                replication_factor=2,
                on_disk_payload=False,
                on_disk=True,
            )
        )
        load(films())
        made = config(client, dataset)
        assert (made.hnsw_config.m, made.hnsw_config.ef_construct) == (32, 321)
        assert made.optimizer_config.indexing_threshold == 5000
        assert made.strict_mode_config.max_query_limit == 50
        assert made.quantization_config.scalar.type == "int8"
        assert (made.params.replication_factor, made.params.on_disk_payload) == (2, False)
        assert vector(client, dataset).on_disk
        assert not [a for a in client.get_aliases().aliases if a.alias_name.startswith(dataset)]

    def test_what_is_as_it_is_asked_for_is_not_changed_again(self, load: Load):
        asked: Any = {
            "hnsw_config": {"m": 24},
            "optimizers_config": {"indexing_threshold": 5000, "max_optimization_threads": "auto"},
            "quantization_config": QUANTIZED,
            "strict_mode_config": {"enabled": True, "max_query_limit": 50},
            "on_disk": False,
        }
        load(films(**asked))
        shared_server().reset_counts()
        load(films(**asked))
        assert "update_collection" not in shared_server().counts()["operations"]

    def test_what_was_set_by_hand_is_mended(self, load: Load, client, dataset):
        load(films(hnsw_config={"m": 24}))
        client.update_collection(f"{dataset}_films", hnsw_config=models.HnswConfigDiff(m=8))
        load(films(hnsw_config={"m": 24}))
        assert config(client, dataset).hnsw_config.m == 24

    def test_a_collection_behind_an_alias_is_changed(self, load: Load, client, dataset):
        load(films(), columns={"plot": {"data_type": "text"}})
        load(films(embed=["title", "plot"]))
        load(films(embed=["title", "plot"], hnsw_config={"m": 24}))
        assert config(client, dataset).hnsw_config.m == 24

    def test_one_that_takes_anothers_place_has_its_settings_and_these(
        self, load: Load, client, dataset
    ):
        load(films(hnsw_config={"m": 24, "ef_construct": 200}, shard_number=2))
        columns: Any = {"plot": {"data_type": "text"}}
        load(films(embed=["title", "plot"], hnsw_config={"m": 32}, shard_number=3), columns=columns)
        made = config(client, dataset)
        assert (made.hnsw_config.m, made.hnsw_config.ef_construct) == (32, 200)
        assert made.params.shard_number == 3

    @pytest.mark.parametrize(
        "asked", [{"shard_number": 3}, {"wal_config": {"wal_capacity_mb": 64}}], ids=str
    )
    def test_what_qdrant_cannot_change_is_refused(self, load: Load, client, dataset, asked):
        load(films())
        with pytest.raises(PipelineStepFailed, match="which Qdrant cannot change") as refused:
            load(films(**asked))
        [name] = asked
        assert f"`{name}`" in str(refused.value)
        load(films(**asked), machine="there", refresh="drop_resources")
        assert client.count(f"{dataset}_films").count == 2


@pytest.mark.every_qdrant
@pytest.mark.parametrize("asked", [{"distance": "Euclid"}, {"datatype": "float16"}], ids=str)
def test_another_kind_of_vectors_is_refused(load: Load, asked):
    load(films())
    load(films(distance="Cosine", datatype="float32"))
    with pytest.raises(PipelineStepFailed, match="which Qdrant cannot change"):
        load(films(**asked))


def test_another_distance_is_given_to_a_collection_that_is_made_anew(load: Load, client, dataset):
    load(films())
    columns: Any = {"plot": {"data_type": "text"}}
    load(films(embed=["title", "plot"], distance="Dot"), columns=columns)
    assert vector(client, dataset).distance == "Dot"
    load(films(embed=["title"]))  # what nobody names stays
    assert vector(client, dataset).distance == "Dot"


def test_vectors_of_another_distance_are_not_copied(load: Load, dataset):
    load(films())
    resource = dlt.resource(ROWS, name="films", write_disposition="merge", primary_key="id")
    asked: Any = {"distance": "Dot"}  # Qdrant keeps those for "Cosine" in another form
    said = qdrant_adapter(resource, embed="title", keywords=True, collection=asked)
    assert loaded(load, said).embedded == 2


def test_lists_in_rows_are_set_up_like_their_table(load: Load, client, dataset):
    rows = [{"id": 1, "title": "Moon", "scenes": [{"text": "A man alone."}]}]
    resource = dlt.resource(rows, name="films")
    said: Any = {"nested": {"scenes": "text"}, "collection": {"distance": "Dot"}}
    load(qdrant_adapter(resource, **said))
    assert vector(client, dataset, "films__scenes").distance == "Dot"


@pytest.mark.parametrize("distance", ["Euclid", "Manhattan", "Dot"])
def test_a_collection_of_another_distance_is_searched_checked_and_shown(
    resource, dataset, distance
):
    source = films(distance=distance)
    assets = build_qdrant_assets(dlt_source=source, dataset_name=dataset, checks=True)
    result = dg.materialize([assets], resources={"qdrant": resource})
    assert all(each.passed for each in result.get_asset_check_evaluations())
    assert resource.search(dataset, "films", "Moon", limit=1)[0].payload["id"] == 1
    [event] = result.get_asset_materialization_events()
    nearest = str(event.materialization.metadata["nearest"].value).splitlines()
    own = float(nearest[2].split("|")[1])
    assert own == pytest.approx(1 if distance == "Dot" else 0, abs=0.01)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (["on_disk"], "`collection` must be settings by name"),
        ({"hnsw": {}}, "'hnsw', which is no setting. Did you mean `hnsw_config`"),
        ({"vectors": {}}, "'vectors', which is no setting"),
        ({"hnsw_config": {"em": 3}}, r"`collection\['hnsw_config'\]` has 'em'.* Did you mean `m`"),
        ({"shard_number": "two"}, "`shard_number` is 'two'"),
        ({"distance": "cosinus"}, "`distance` is 'cosinus'"),
        ({"sharding_method": "custom"}, "rows are written without one"),
        ({"datatype": "uint8"}, "which would all become 0"),
    ],
)
def test_what_qdrant_does_not_take_is_refused_at_once(said, words):
    with pytest.raises(ValueError, match=words):
        qdrant_adapter([{"title": "x"}], embed="title", collection=said)


def test_without_vectors_nothing_can_be_said_of_them():
    with pytest.raises(ValueError, match="`distance`, `on_disk`, which only vectors"):
        qdrant_adapter([{"a": 1}], collection={"distance": "Dot", "on_disk": True})
