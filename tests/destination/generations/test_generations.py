"""Collections that are built beside the one that is read: swaps, other models, other columns."""

import uuid
from pathlib import Path
from typing import Any

import dlt
import pytest
from dlt.pipeline.exceptions import PipelineStepFailed
from qdrant_client import models

from dagster_qdrant import (
    QdrantConfigurationError,
    QdrantResource,
    QdrantTransientError,
    qdrant_adapter,
)
from dagster_qdrant.destination.generations.generations import Generations
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.qdrant.connection import Connection
from tests.targets import Target

FILMS = [{"id": n, "title": f"film {n}", "tags": ["a", "b"]} for n in range(6)]
LATER = [{"id": n, "title": f"film {n}", "tags": ["c"]} for n in range(3, 8)]


@pytest.fixture
def loaded(qdrant_target: Target, model: dict[str, Any], dataset: str, tmp_path: Path):
    """Loads films with some options, as a script would, and tells the counts."""

    def load(
        rows: Any, disposition: str = "replace", *, embed: Any = "title", name="films", **options
    ):
        # Loads that fail here are not resumed, and need not be waited for for long.
        options = {"abandoned_after": 1.0, **options}
        resource = QdrantResource(**qdrant_target.options | model | options)
        pipeline = dlt.pipeline(
            "films",
            destination=resource.destination(),
            dataset_name=dataset,
            pipelines_dir=str(tmp_path / str(len(list(tmp_path.iterdir())))),  # a new machine
        )
        key = "id" if disposition == "merge" else None
        films = dlt.resource(rows, name=name, write_disposition=disposition, primary_key=key)
        pipeline.run(qdrant_adapter(films, embed=embed))
        return load_reports.take(pipeline.last_trace.last_load_info.loads_ids[0])[name]

    return load


@pytest.fixture
def films_now(qdrant_target: Target, dataset: str):
    """What readers find: the films' numbers and how many nested rows there are."""

    def now() -> tuple[list[int], int]:
        collections = qdrant_target.collections()
        tags = f"{dataset}_films__tags"
        return (
            sorted(row["id"] for row in qdrant_target.rows(f"{dataset}_films")),
            len(qdrant_target.rows(tags)) if collections else 0,
        )

    return now


def generations(qdrant_target: Target, dataset: str, table: str = "films") -> set[str]:
    return {
        name.removeprefix(f"{dataset}_")
        for name in qdrant_target.collections()
        if name.startswith(f"{dataset}_{table}@") or name == f"{dataset}_{table}"
    }


# -- replace_strategy="swap" -----------------------------------------------------------------------


@pytest.mark.every_qdrant
def test_a_swap_shows_readers_all_former_rows_and_then_all_new_ones(
    loaded, films_now, monkeypatch, qdrant_target, dataset
):
    loaded(FILMS, replace_strategy="swap")
    assert films_now() == ([0, 1, 2, 3, 4, 5], 12)
    seen = []
    switch = Generations.switch

    def watched(self, *args):
        seen.append(films_now())
        switch(self, *args)
        seen.append(films_now())

    monkeypatch.setattr(Generations, "switch", watched)
    counts = loaded(LATER, replace_strategy="swap")
    assert seen == [([0, 1, 2, 3, 4, 5], 12), ([3, 4, 5, 6, 7], 5)]
    assert (counts.embedded, counts.reused) == (2, 3)
    assert generations(qdrant_target, dataset) == {"films@2"}


def test_a_swap_that_fails_leaves_the_former_rows_and_is_made_up_for(
    loaded, films_now, monkeypatch, qdrant_target, dataset
):
    loaded(FILMS, replace_strategy="swap")
    with monkeypatch.context() as patched:
        patched.setattr(Generations, "switch", fail)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            loaded(FILMS[:1], replace_strategy="swap")
    assert films_now() == ([0, 1, 2, 3, 4, 5], 12)
    loaded(LATER, replace_strategy="swap")
    assert films_now() == ([3, 4, 5, 6, 7], 5)


def test_a_swap_without_rows_leaves_none(loaded, films_now):
    loaded(FILMS, replace_strategy="swap")
    loaded([], replace_strategy="swap")
    assert films_now() == ([], 0)


def test_a_swap_takes_over_from_a_collection_without_an_alias(
    loaded, films_now, qdrant_target, dataset
):
    loaded(FILMS)
    assert generations(qdrant_target, dataset) == {"films"}
    counts = loaded(LATER, replace_strategy="swap")
    assert (counts.embedded, counts.reused) == (2, 3)
    assert films_now() == ([3, 4, 5, 6, 7], 5)
    assert generations(qdrant_target, dataset) == {"films@1"}


def test_the_former_collection_is_kept_for_a_rollback_when_asked(
    loaded, films_now, resource, qdrant_target, dataset
):
    for rows in (FILMS, FILMS[:1], LATER):
        loaded(rows, replace_strategy="swap", keep_former=True)
    assert generations(qdrant_target, dataset) == {"films@2", "films@3"}
    with resource.get_client() as client:
        client.update_collection_aliases(
            [
                models.DeleteAliasOperation(
                    delete_alias=models.DeleteAlias(alias_name=f"{dataset}_films")
                ),
                models.CreateAliasOperation(
                    create_alias=models.CreateAlias(
                        alias_name=f"{dataset}_films", collection_name=f"{dataset}_films@2"
                    )
                ),
            ]
        )
    assert films_now()[0] == [0]
    loaded(LATER[:2], replace_strategy="swap")
    assert films_now()[0] == [3, 4]
    assert generations(qdrant_target, dataset) == {"films@3"}


@pytest.mark.every_qdrant
def test_the_same_rows_in_place_after_a_swap(loaded, films_now, qdrant_target, dataset):
    loaded(FILMS, replace_strategy="swap")
    assert loaded(LATER).embedded == 2
    assert films_now() == ([3, 4, 5, 6, 7], 5)
    assert generations(qdrant_target, dataset) == {"films@1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replace_strategy": "fast"}, "`replace_strategy` is 'fast'; it must be 'in-place' or"),
        ({"keep_former": True}, "Set `replace_strategy` to 'swap' too, or remove it"),
        ({"abandoned_after": 0.0}, "`abandoned_after` is 0.0; it must be more than 0 seconds"),
    ],
)
def test_an_option_that_cannot_take_effect_is_refused(options, message):
    with pytest.raises(QdrantConfigurationError, match=message):
        QdrantResource(location=":memory:", **options).configuration()


def test_the_names_of_dlts_strategies_mean_the_one_that_keeps_their_promise():
    for name, swaps in {"truncate-and-insert": False, "insert-from-staging": True}.items():
        config = QdrantResource(location=":memory:", replace_strategy=name).configuration()
        assert config.swaps is swaps


# -- another model, other columns ------------------------------------------------------------------


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_another_model_embeds_all_rows_again_also_those_that_do_not_come(
    loaded, films_now, resource, qdrant_target, dataset, disposition, other_model, caplog
):
    loaded(FILMS, disposition)
    with caplog.at_level("WARNING", "dagster_qdrant"):
        counts = loaded(LATER, disposition, **other_model)
    ids = {"append": [*range(6), *range(3, 8)], "merge": range(8), "replace": range(3, 8)}
    assert films_now()[0] == sorted(ids[disposition])
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert {tuple(point.vector) for point in points} == {("fast-bge-small-en",)}
    hits = resource.model_copy(update=other_model).search(dataset, "films", "film 7", limit=1)
    assert hits[0].payload["id"] == 7
    if disposition == "replace":
        assert counts.embedded == 5
        return
    assert counts.embedded == 8, "those that were there, and two new ones"
    assert (
        "was embedded with sentence-transformers/all-MiniLM-L6-v2 of `title`. Now "
        "BAAI/bge-small-en of `title` is asked for. All of its 6 points are embedded again, "
        "in about 0 s."
    ) in caplog.text


def test_other_columns_to_embed_embed_all_rows_again(loaded, resource, dataset, qdrant_target):
    rows = [{"id": n, "title": "a film", "plot": plot} for n, plot in enumerate(["love", "war"])]
    loaded(rows, "merge")
    loaded([{"id": 2, "title": "a film", "plot": "food"}], "merge", embed=["title", "plot"])
    for number, plot in enumerate(["love", "war", "food"]):
        [hit] = resource.search(dataset, "films", f"a film\n{plot}", limit=1)
        assert hit.payload["id"] == number
    assert generations(qdrant_target, dataset) == {"films@1"}


def test_until_all_is_embedded_again_the_former_vectors_can_be_searched(
    loaded, films_now, resource, monkeypatch, dataset, qdrant_target, other_model
):
    loaded(FILMS, "merge")
    before = qdrant_target.points(f"{dataset}_films", vectors=True)
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "request", fail_after_writes(2))
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            loaded(LATER, "merge", upload_batch_size=2, **other_model)
    assert qdrant_target.points(f"{dataset}_films", vectors=True) == before
    assert resource.search(dataset, "films", "film 3", limit=1)[0].payload["id"] == 3

    embedded = []
    from dagster_qdrant.embedding.local import TextEmbedder

    original = TextEmbedder.start
    monkeypatch.setattr(
        TextEmbedder,
        "start",
        lambda self, texts: embedded.append(len(texts)) or original(self, texts),
    )
    loaded(LATER, "merge", **other_model)
    assert films_now()[0] == list(range(8))
    # A sample of all, then what the first attempt had not written, then the new rows.
    assert embedded == [6, 2, 2]


def test_what_an_attempt_with_yet_another_model_left_is_not_in_the_way(
    loaded, films_now, monkeypatch, other_model, qdrant_target, dataset
):
    loaded(FILMS, "merge")
    with monkeypatch.context() as patched:
        patched.setattr(Connection, "request", fail_after_writes(2))
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            loaded(LATER, "merge", upload_batch_size=2, **other_model)
    loaded(LATER, "merge", embed=["title", "id"])
    assert films_now()[0] == list(range(8))
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert {tuple(point.vector) for point in points} == {("fast-all-minilm-l6-v2",)}


def test_what_another_program_writes_into_the_collection_meanwhile_is_not_lost(
    loaded, films_now, monkeypatch, other_model, resource, dataset
):
    loaded(FILMS, "merge")
    switch = Generations.switch

    def disturbed(self, *args):
        raise AssertionError("the names were switched")

    def loads_meanwhile(self, name, collection):
        monkeypatch.undo()
        payload = {"id": 99, "title": "meanwhile", "_dlt_load_id": "1700000000.5"}
        with resource.get_client() as client:
            point = models.PointStruct(id=str(uuid.UUID(int=99)), vector={}, payload=payload)
            client.upsert(f"{dataset}_films", points=[point], wait=True)
        return False

    monkeypatch.setattr(Generations, "leads_to", loads_meanwhile)
    monkeypatch.setattr(Generations, "switch", disturbed)
    with pytest.raises(PipelineStepFailed, match="Another load changed collection"):
        loaded(LATER, "merge", **other_model)
    assert switch is Generations.switch
    loaded(LATER, "merge", **other_model)
    assert films_now()[0] == [*range(8), 99]


def test_a_crash_between_the_plain_collection_and_its_alias_is_made_up_for(
    loaded, films_now, monkeypatch, qdrant_target, dataset, other_model
):
    loaded(FILMS, "merge")
    request = Generations.__init__

    def dies(self, collections):
        request(self, collections)
        original = self._request

        def deadly(operation, *args, **kwargs):
            if "change_aliases_operations" in kwargs:
                raise QdrantTransientError("an interruption")
            return original(operation, *args, **kwargs)

        self._request = deadly

    with monkeypatch.context() as patched:
        patched.setattr(Generations, "__init__", dies)
        with pytest.raises(PipelineStepFailed, match="an interruption"):
            loaded(FILMS[:1], "merge", **other_model)
    assert generations(qdrant_target, dataset) == {"films@1"}
    loaded(LATER, "merge", **other_model)
    assert films_now()[0] == list(range(8))


def test_dropping_a_dataset_takes_its_generations_and_no_other(
    loaded, qdrant_target, dataset, resource, tmp_path
):
    loaded(FILMS, replace_strategy="swap", keep_former=True)
    loaded(LATER, replace_strategy="swap", keep_former=True)
    with resource.get_client() as client:
        for name in (f"{dataset}_films@x", f"{dataset}_filmset@1"):
            client.create_collection(name, vectors_config={})
    pipeline = dlt.pipeline(
        "films",
        destination=resource.destination(),
        dataset_name=dataset,
        pipelines_dir=str(tmp_path / "drop"),
    )
    pipeline.sync_destination()
    with pipeline.destination_client("films") as client:
        client.drop_storage()
    left = {name for name in qdrant_target.collections() if name.startswith(dataset)}
    assert left == {f"{dataset}_films@x", f"{dataset}_filmset@1"}


def fail(*_args: Any) -> None:
    raise QdrantTransientError("an interruption")


def fail_after_writes(times: int) -> Any:
    """Requests of which some writes of rows succeed, and no more."""
    request, left = Connection.request, [times]

    def failing(self: Connection, operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.__name__ == "upsert" and "__dlt_" not in args[0]:
            left[0] -= 1
            if left[0] < 0:
                fail()
        return request(self, operation, *args, **kwargs)

    return failing


def metadata(resource: QdrantResource, collection: str) -> dict[str, Any]:
    with resource.get_client() as client:
        return client.get_collection(collection).config.metadata["dagster_qdrant"]


def test_another_prefix_of_passages_is_embedded_again_and_one_of_questions_is_not(
    loaded, qdrant_target, resource, dataset, caplog
):
    loaded(FILMS, "merge")
    same = loaded(FILMS, "merge", query_prefix="query: ", passage_prefix="")
    assert (same.embedded, same.changed, generations(qdrant_target, dataset)) == (0, 0, {"films"})
    assert metadata(resource, f"{dataset}_films")["query_prefix"] == "query: "
    with caplog.at_level("WARNING", "dagster_qdrant"):
        counts = loaded(LATER[:1], "merge", query_prefix="query: ", passage_prefix="passage: ")
    assert "sentence-transformers/all-MiniLM-L6-v2 of `title` after the prefix" in (caplog.text)
    assert counts.embedded == 6
    assert generations(qdrant_target, dataset) == {"films@1"}
    said = metadata(resource, f"{dataset}_films")
    assert (said["query_prefix"], said["passage_prefix"]) == ("query: ", "passage: ")
    again = loaded(LATER[:1], "merge", query_prefix="other: ", passage_prefix="passage: ")
    assert again.embedded == 0
    assert metadata(resource, f"{dataset}_films")["query_prefix"] == "other: "


def test_a_collection_that_a_failed_load_left_empty_is_made_in_its_place(
    loaded, films_now, qdrant_target, dataset, other_model, caplog
):
    with pytest.raises(PipelineStepFailed, match="no such folder|is no folder"):
        loaded(FILMS, "merge", **other_model | {"model_path": "nowhere"})
    assert generations(qdrant_target, dataset) == {"films"}
    with caplog.at_level("WARNING", "dagster_qdrant"):
        loaded(FILMS, "merge")  # with another model
    assert "embedded again" not in caplog.text
    assert generations(qdrant_target, dataset) == {"films"}
    assert films_now()[0] == list(range(6))
    points = qdrant_target.points(f"{dataset}_films", vectors=True)
    assert {tuple(point.vector) for point in points} == {("fast-all-minilm-l6-v2",)}


def test_what_is_cut_while_it_is_embedded_again_is_counted(loaded, other_model):
    loaded([{"id": 1, "title": "word " * 600}, {"id": 2, "title": "short"}], "merge")
    counts = loaded([{"id": 3, "title": "new"}], "merge", **other_model)
    assert (counts.rows, counts.embedded, counts.texts_cut, counts.tokens_cut) == (1, 3, 1, 90)
