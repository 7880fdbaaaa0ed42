"""Further vectors of rows are shown, and their loss is noticed."""

from typing import Any

import dagster as dg
import dlt
from qdrant_client import models

from dagster_qdrant import QdrantResource, build_qdrant_assets, build_qdrant_checks, qdrant_adapter
from tests.targets import Target

ROWS = [{"id": 1, "title": "Androids", "plot": "They dream."}, {"id": 2, "title": "Moon"}]


def test_further_vectors_are_shown_and_their_loss_is_found(
    resource: QdrantResource, qdrant_target: Target, dataset: str
):
    films = dlt.resource(ROWS, name="films")
    vectors = {"title": "title", "plot": "plot"}
    assets = build_qdrant_assets(
        dlt_source=qdrant_adapter(films, vectors=vectors), dataset_name=dataset
    )
    checks = build_qdrant_checks([assets])
    definitions, instance = [assets, *checks], dg.DagsterInstance.ephemeral()

    def run(selection: dg.AssetSelection) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            definitions, resources={"qdrant": resource}, instance=instance, selection=selection
        )

    def check() -> dg.AssetCheckEvaluation:
        found = run(dg.AssetSelection.checks(*checks)).get_asset_check_evaluations()
        assert {each.check_name for each in found if not each.passed} <= {"all_vectors_present"}
        [evaluation] = [each for each in found if each.check_name == "all_vectors_present"]
        return evaluation

    [event] = run(dg.AssetSelection.assets(assets)).get_asset_materialization_events()
    shown = event.materialization.metadata
    assert (shown["texts_embedded_title"].value, shown["texts_embedded_plot"].value) == (2, 1)
    assert (shown["texts_embedded"].value, shown["rows_embedded"].value) == (3, 2)
    assert shown["vectors"].value["title"]["columns"] == ["title"]
    assert check().passed
    [lost] = [p.id for p in qdrant_target.points(f"{dataset}_films") if p.payload["id"] == 1]
    with resource.get_client() as client:
        client.delete_vectors(f"{dataset}_films", vectors=["plot"], points=[lost])
    evaluation = check()
    assert not evaluation.passed
    assert f"no vector `plot`, say point {lost}" in (evaluation.description or "")
    assert evaluation.metadata["vectors_missing_title"].value == 0
    assert evaluation.metadata["vectors_missing_plot"].value == 1


def test_every_vector_is_checked(
    resource: QdrantResource, qdrant_target: Target, dataset: str, colbert: dict[str, Any]
):
    rows = [{"id": 1, "title": "Androids", "plot": "They dream of sheep."}, {"id": 2}]
    films = dlt.resource(rows, name="films", primary_key="id", write_disposition="merge")
    vectors = {"title": "title", "tokens": {**colbert, "columns": ["plot"]}}
    hints: dict[str, Any] = {"embed": "plot", "vectors": vectors, "keywords": {"columns": "title"}}
    assets = build_qdrant_assets(
        dlt_source=qdrant_adapter(films, **hints), dataset_name=dataset, checks=True
    )

    def check(selection: dg.AssetSelection) -> dict[str, dg.AssetCheckEvaluation]:
        result = dg.materialize([assets], resources={"qdrant": resource}, selection=selection)
        return {each.check_name: each for each in result.get_asset_check_evaluations()}

    found = check(dg.AssetSelection.assets(assets))
    assert {each.check_name for each in found.values() if not each.passed} == set()
    for name in ("", "_title", "_tokens", "_bm25"):
        assert found["vectors_valid"].metadata[f"vectors_read{name}"].value == 1
        assert found["search_finds_row"].metadata[f"similarity_of_row{name}"].value == 1
        assert found["search_finds_row"].metadata[f"similarity_of_best_hit{name}"].value == 1
    assert found["no_text_cut"].metadata["texts_read_tokens"].value == 1

    [point] = [p for p in qdrant_target.points(f"{dataset}_films", vectors=True) if p.vector]
    others: dict[str, Any] = {
        "title": [-number for number in point.vector["title"]],
        "tokens": [[-number for number in token] for token in point.vector["tokens"]],
        "bm25": models.SparseVector(indices=[7], values=[1.0]),
    }
    zeros: dict[str, Any] = {
        "title": [0.0] * len(point.vector["title"]),
        "tokens": [[0.0] * 128],
        "bm25": models.SparseVector(indices=point.vector["bm25"].indices, values=[0.0]),
    }
    for name in others:
        for changed, check_name, words in (
            (others, "search_finds_row", f"its vector `{name}` is that of another text"),
            (zeros, "vectors_valid", f"1 of 1 vectors `{name}` are zero"),
            (point.vector, None, ""),
        ):
            vector = {name: changed[name]}
            with resource.get_client() as client:
                client.update_vectors(
                    f"{dataset}_films", [models.PointVectors(id=point.id, vector=vector)]
                )
            found = check(dg.AssetSelection.checks_for_assets(assets))
            failed = {each.check_name for each in found.values() if not each.passed}
            assert failed - {"search_finds_row"} == {check_name} - {None, "search_finds_row"}
            assert check_name is None or words in (found[check_name].description or "")
