"""A collection whose rows have lost the vectors of their keywords is noticed."""

from typing import Any

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, build_qdrant_assets, build_qdrant_checks, qdrant_adapter
from tests.targets import Target

ROWS = [
    {"id": 1, "title": "Androids in the rain"},
    {"id": 2, "title": "of the"},  # no keyword, so no vector
    {"id": 3},
]


@pytest.fixture(params=[{"embed": "title", "keywords": True}, {"keywords": {"columns": "title"}}])
def assets(request: pytest.FixtureRequest, dataset: str) -> dg.AssetsDefinition:
    columns: Any = {"title": {"data_type": "text"}}
    films = dlt.resource(ROWS, name="films", columns=columns)
    return build_qdrant_assets(
        dlt_source=qdrant_adapter(films, **request.param), dataset_name=dataset
    )


def test_keywords_are_counted_and_their_loss_is_found(
    assets: dg.AssetsDefinition, resource: QdrantResource, qdrant_target: Target, dataset: str
):
    instance = dg.DagsterInstance.ephemeral()
    checks = build_qdrant_checks([assets])

    def run(selection: dg.AssetSelection) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [assets, *checks],
            resources={"qdrant": resource},
            instance=instance,
            selection=selection,
        )

    def check(name: str = "all_keywords_present") -> dg.AssetCheckEvaluation:
        found = run(dg.AssetSelection.checks(*checks)).get_asset_check_evaluations()
        [evaluation] = [each for each in found if each.check_name == name]
        return evaluation

    [event] = run(dg.AssetSelection.assets(assets)).get_asset_materialization_events()
    assert event.materialization.metadata["rows_given_keywords"].value == 1
    assert check().passed
    [lost] = [p.id for p in qdrant_target.points(f"{dataset}_films") if p.payload["id"] == 1]
    with resource.get_client() as client:
        client.delete_vectors(f"{dataset}_films", vectors=["bm25"], points=[lost])
    evaluation = check()
    assert not evaluation.passed
    assert lost in (evaluation.description or "")
    assert evaluation.metadata["keywords_missing"].value == 1
    assert evaluation.metadata["points_without_keywords"].value == 3
    # Texts have become much longer than they were when their mean length was measured.
    assert check("keyword_lengths_fit").passed
    with resource.get_client() as client:
        about = client.get_collection(f"{dataset}_films").config.metadata["dagster_qdrant"]
        about["keywords"]["avg_len"] = 0.5
        client.update_collection(f"{dataset}_films", metadata={"dagster_qdrant": about})
    evaluation = check("keyword_lengths_fit")
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "Its texts have 2.0 words on average" in (evaluation.description or "")


def test_assets_without_keywords_have_no_check_of_them(dataset: str):
    films = qdrant_adapter(dlt.resource(ROWS, name="films"), embed="title")
    assets = build_qdrant_assets(dlt_source=films, dataset_name=dataset, checks=True)
    assert "all_keywords_present" not in {key.name for key in assets.check_keys}
