"""Resources that give no rows: what is there then, and what the checks say."""

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter
from tests.targets import Target

pytestmark = pytest.mark.in_memory

FILMS = [{"id": 1, "title": "Moon"}, {"id": 2, "title": "Her"}]


def films(rows=(), **hints):
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints
    return qdrant_adapter(dlt.resource(rows, name="films", **hints), embed="title")


def nothing():
    yield from ()


def an_empty_list():
    yield []


def no_row_but_the_table():
    yield dlt.mark.materialize_table_schema()


class Cinema:
    def __init__(self, resource: QdrantResource, dataset: str) -> None:
        self.resource = resource
        self.dataset = dataset
        self.instance = dg.DagsterInstance.ephemeral()

    def run(self, *resources, selection=None):
        assets = build_qdrant_assets(
            dlt_source=list(resources), dataset_name=self.dataset, checks="blocking"
        )
        return dg.materialize(
            [assets],
            resources={"qdrant": self.resource},
            instance=self.instance,
            selection=selection and selection(assets),
            raise_on_error=False,
        )

    def load(self, *resources):
        result = self.run(*resources)
        assert result.success
        assert all(check.passed for check in result.get_asset_check_evaluations())

    def failing(self, *resources):
        result = self.run(*resources, selection=dg.AssetSelection.checks_for_assets)
        return [c.check_name for c in result.get_asset_check_evaluations() if not c.passed]

    def search(self, table="films"):
        return self.resource.search(self.dataset, table, "the moon")


@pytest.fixture
def cinema(resource, dataset) -> Cinema:
    return Cinema(resource, dataset)


@pytest.fixture
def here(model, dataset) -> Cinema:
    """For what does not depend on the kind of Qdrant."""
    return Cinema(QdrantResource(location=f":memory:{dataset}", **model), dataset)


@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_a_search_of_an_asset_without_rows_finds_nothing(cinema, disposition):
    cinema.load(films(nothing, write_disposition=disposition))
    assert cinema.search() == []
    cinema.load(films(FILMS, write_disposition=disposition))
    assert cinema.search()[0].payload["title"] == "Moon"


@pytest.mark.parametrize("rows", [an_empty_list, no_row_but_the_table])
def test_however_it_says_that_it_has_no_rows(here, rows):
    columns = {"id": {"data_type": "bigint"}, "title": {"data_type": "text"}}
    here.load(films(rows, columns=columns, write_disposition="append"))
    assert here.search() == []
    here.load(films(FILMS, write_disposition="append"))
    assert len(here.search()) == 2


def test_a_collection_without_rows_holds_what_one_with_rows_does(here):
    here.load(films(nothing))
    with here.resource.get_client() as client:
        empty = client.get_collection(f"{here.dataset}_films").config
    here.load(films(FILMS))
    with here.resource.get_client() as client:
        full = client.get_collection(f"{here.dataset}_films").config
    assert (empty.params, empty.metadata) == (full.params, full.metadata)


def test_a_resource_that_came_later_without_rows_has_its_collection_too(here):
    here.load(films(FILMS))
    books = qdrant_adapter(dlt.resource(nothing, name="books"), embed="title")
    here.load(films(FILMS), books)
    assert here.search("books") == []


def test_a_collection_that_had_rows_is_not_made_anew_when_it_is_gone(cinema, qdrant_target: Target):
    cinema.load(films(FILMS))
    with cinema.resource.get_client() as client:
        client.delete_collection(f"{cinema.dataset}_films")
    result = cinema.run(films(nothing))
    assert not any(check.passed for check in result.get_asset_check_evaluations())
    assert f"{cinema.dataset}_films" not in qdrant_target.collections()


def test_checks_fail_when_an_empty_collection_is_gone(here):
    here.load(films(nothing))
    assert here.failing(films(nothing)) == []
    with here.resource.get_client() as client:
        client.delete_collection(f"{here.dataset}_films")
    assert {"all_rows_present", "search_finds_row"} < set(here.failing(films(nothing)))


def test_tables_that_only_rows_can_name_are_made_with_them(here, qdrant_target: Target):
    here.load(films(nothing, table_name=lambda row: row["kind"]))
    here.load(films([{"id": 1, "title": "Moon", "kind": "drama"}], table_name=lambda r: r["kind"]))
    assert len(here.search("drama")) == 1
