"""Further vectors of rows are shown, and their loss is noticed."""

import dagster as dg
import dlt

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
