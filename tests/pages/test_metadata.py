"""What a materialization shows of a collection."""

import base64
import logging
import re
from functools import partial
from pathlib import Path

import dagster as dg
import dlt
import httpx
import numpy as np
import pytest
from qdrant_client import models

from dagster_qdrant import QdrantResource, build_qdrant_assets, qdrant_adapter
from dagster_qdrant.pages.markdown import shorten
from dagster_qdrant.pages.preview import Preview
from dagster_qdrant.qdrant.collections import Collections
from dagster_qdrant.qdrant.connection import connect
from dagster_qdrant.qdrant.connection_options import ConnectionOptions
from tests.targets import Target

pytestmark = pytest.mark.in_memory

FILMS = [
    {"id": 1, "title": "Blade Runner", "plot": "A detective hunts androids in the rain."},
    {"id": 2, "title": "Ex Machina", "plot": "A programmer falls for a robot."},
    {"id": 3, "title": "Amelie", "plot": "A waitress in Paris mends lives."},
]


def films(rows=FILMS, embed=("title", "plot"), **hints):
    hints = {"write_disposition": "merge", "primary_key": "id"} | hints
    resource = dlt.resource(rows, name="films", **hints)
    return qdrant_adapter(resource, embed=list(embed)) if embed else resource


def shown(qdrant, dataset, *args, **hints):
    """Load something and give the metadata of its materialization."""
    assets = build_qdrant_assets(dlt_source=films(*args, **hints), dataset_name=dataset)
    result = dg.materialize([assets], resources={"qdrant": qdrant})
    assert result.success
    [event] = result.get_asset_materialization_events()
    return {name: entry.value for name, entry in event.materialization.metadata.items()}


@pytest.fixture
def show(resource: QdrantResource, dataset):
    """With each kind of Qdrant."""
    return partial(shown, resource, dataset)


@pytest.fixture
def show_here(model, dataset):
    """In memory, where it makes no difference; takes options of the resource."""

    def show_here(*args, options=None, **hints):
        qdrant = QdrantResource(location=":memory:shown", **model, **(options or {}))
        return shown(qdrant, dataset, *args, **hints)

    return show_here


def lines(table: str) -> list[list[str]]:
    """The cells of a Markdown table, line by line."""
    return [
        [cell.strip().replace("\\", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in table.splitlines()
        if line.startswith("|")
    ]


def names(table: str) -> list[str]:
    return lines(table)[0]


def cells(table: str) -> list[dict[str, str]]:
    return [dict(zip(names(table), line, strict=True)) for line in lines(table)[2:]]


class TestCollection:
    def test_the_schema_says_which_columns_are_indexed(
        self, show, resource: QdrantResource, qdrant_target: Target, dataset
    ):
        show()
        with resource.get_client() as client:
            client.create_payload_index(
                f"{dataset}_films", "title", models.PayloadSchemaType.KEYWORD, wait=True
            )
        columns = {c.name: c.constraints.other for c in show()["dagster/column_schema"].columns}
        is_server = qdrant_target.kind not in ("memory", "path")
        assert columns["title"] == ["embedded", "indexed"] if is_server else ["embedded"]
        assert columns["id"] == ["primary key"]
        assert columns["_dlt_load_id"] == (["indexed"] if is_server else [])

    def test_a_server_has_a_link_to_its_dashboard(self, show, qdrant_target: Target, dataset):
        metadata = show()
        if qdrant_target.kind in ("memory", "path"):
            assert "dashboard" not in metadata
        else:
            url = qdrant_target.options["location"]
            assert (
                metadata["dashboard"] == f"[open](<{url}/dashboard#/collections/{dataset}_films>)"
            )

    @pytest.mark.parametrize(
        ("options", "url"),
        [
            ({"host": "q"}, "http://q:6333/dashboard#/collections/a%2Fb%20c"),
            (
                {"location": "https://q.example/behind/"},
                "https://q.example:6333/behind/dashboard#/collections/a%2Fb%20c",
            ),
            (
                {"location": "https://q.example", "prefix": "/behind"},
                "https://q.example:6333/behind/dashboard#/collections/a%2Fb%20c",
            ),
        ],
    )
    def test_the_link_is_to_where_the_server_is(self, options, url):
        assert ConnectionOptions(**options).dashboard_url("a/b c") == url

    def test_the_uri_is_of_something_that_is_there(self, show, qdrant_target: Target, dataset):
        uri = show().get("dagster/uri")
        if qdrant_target.kind == "memory":
            assert uri is None
        elif qdrant_target.kind == "path":
            assert Path(uri.removeprefix("file://")).is_dir()
            assert uri.endswith(f"/collection/{dataset}_films")
        else:
            options = qdrant_target.options
            answer = httpx.get(uri, headers={"api-key": options["api_key"]})
            assert answer.json()["result"]["points_count"] == 3

    def test_the_load_id_is_that_of_the_rows(self, show, qdrant_target: Target, dataset):
        metadata = show()
        [load_id] = {p.payload["_dlt_load_id"] for p in qdrant_target.points(f"{dataset}_films")}
        assert metadata["load_id"] == load_id


class TestPreview:
    def test_it_shows_some_rows_the_key_and_the_texts_first(self, show_here):
        table = show_here(
            [{"year": 1990 + n, "title": f"film {n}", "id": n} for n in range(9)], embed=["title"]
        )["preview"]
        assert names(table) == ["id", "title", "year"]
        rows = cells(table)
        assert len(rows) == 5
        assert all(row["title"] == f"film {row['id']}" for row in rows)
        assert all(int(row["year"]) == 1990 + int(row["id"]) for row in rows)

    def test_the_nearest_rows_to_a_row_come_in_their_order(self, show):
        table = show(FILMS)["nearest"]
        rows = cells(table)
        assert names(table) == ["score", "id", "title", "plot"]
        assert sorted(row["id"] for row in rows) == ["1", "2", "3"]
        scores = [float(row["score"]) for row in rows]
        assert scores[0] == 1
        assert scores == sorted(scores, reverse=True)
        # Of these, the film with a robot and the one with androids are the nearest to each other.
        if rows[0]["id"] != "3":
            assert rows[-1]["id"] == "3"

    @pytest.mark.parametrize(("title", "is_long"), [("Moon", False), ("Moon " * 20, True)])
    def test_a_wide_table_is_long_enough_for_a_window_of_its_own(self, show_here, title, is_long):
        rows = [{"id": 1, "title": title}, {"id": 2, "title": title}]
        metadata = show_here(rows, embed=["title"])
        assert (len(metadata["preview"]) >= 1000) == (len(metadata["nearest"]) >= 1000) == is_long

    def test_a_column_named_score_gives_way(self, show_here):
        rows = [{"score": "high"}, {"score": "low"}]
        table = show_here(rows, embed=["score"], primary_key="score")["nearest"]
        assert names(table) == ["score"]
        assert cells(table)[0] == {"score": "1.0"}

    def test_hostile_values_become_short_plain_lines(self, show):
        rows = [
            {
                "id": 2**60,
                "title": "a | b\r\n# c \x1b[31m <script>alert(1)</script>",
                "text": "long " * 100_000,
                "score": 1.5,
                "seen": True,
                "tags": {"a": ["x", 1]},
            }
        ]
        table = show(rows, embed=["title"], max_table_nesting=0)["preview"]
        assert not re.search(r"(?<!\\)[<>`*]", table)
        [row] = cells(table)
        assert row["id"] == str(2**60)
        assert row["title"].startswith("a | b # c [31m <script>")
        assert 8 <= len(row["text"]) < 100
        assert row["text"].endswith("…")
        assert (row["score"], row["seen"], row["tags"]) == ("1.5", "true", '{"a": ["x", 1]}')

    def test_many_columns_are_cut_and_counted(self, show_here):
        row = {f"c{number:02}": number for number in range(30)} | {"id": 1, "title": "Moon"}
        table = show_here([row], embed=["title"])["preview"]
        assert names(table) == ["id", "title", *(f"c{n:02}" for n in range(6))]
        assert table.rstrip().endswith("\n\nand 24 more columns")

    def test_long_values_give_way_so_that_the_table_fits_its_window(self, show_here):
        row = {f"column_{number}": "long " * 50 for number in range(5)} | {"id": 1, "title": "Moon"}
        line, _, cut = show_here([row], embed=["title"])["preview"].rstrip().splitlines()[:3]
        assert len(line.replace("\\", "")) < 140
        assert len(cut) < 140
        assert "| 1 | Moon |" in cut, "what is short is not cut"

    def test_a_row_without_a_value_has_an_empty_cell(self, show_here):
        rows = [{"id": 1, "title": "Moon"}, {"id": 2, "title": "Her", "year": 2013}]
        shown = {r["id"]: r["year"] for r in cells(show_here(rows, embed=["title"])["preview"])}
        assert shown == {"1": "", "2": "2013"}


class TestVectorMap:
    def test_it_is_an_inline_picture_of_a_bounded_size(self, show):
        rows = [{"id": n, "title": f"film number {n}", "plot": "x" * 2000} for n in range(320)]
        markdown = show(rows, embed=["title"])["vector_map"]
        assert len(markdown.encode()) < 30_000
        [data] = re.findall(r"!\[.*\]\(data:image/png;base64,([^)]*)\)", markdown)
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert "300 of 320 points" in markdown

    def test_texts_in_any_script_are_shown(self, show_here):
        rows = [{"id": 1, "title": "千と千尋の神隠し"}, {"id": 2, "title": "😀😀 été"}]
        markdown = show_here(rows, embed=["title"])["vector_map"]
        assert "千と千尋の神隠し" in markdown
        assert "😀😀 été" in markdown

    def test_it_can_be_switched_off(self, show_here):
        metadata = show_here(options={"vector_map": False})
        assert "vector_map" not in metadata
        assert "preview" in metadata

    def test_without_a_preview_no_value_of_a_row_shows_anywhere(self, show_here):
        rows = [{"id": 1, "title": "сéкрет один"}, {"id": 2, "title": "сéкрет два"}]
        metadata = show_here(rows, embed=["title"], options={"preview": False})
        assert not metadata.keys() & {"preview", "nearest"}
        assert "vector_map" in metadata
        assert "сéкрет" not in str(metadata)

    def test_with_both_switched_off_no_point_is_read(self, show_here, monkeypatch, caplog):
        def reads(preview):
            raise AssertionError("points were read")

        monkeypatch.setattr(Preview, "_sample", reads)
        metadata = show_here(options={"preview": False, "vector_map": False})
        assert not metadata.keys() & {"preview", "nearest", "vector_map"}
        assert "points were read" not in caplog.text


class TestLittleToShow:
    def test_a_table_without_vectors_has_a_preview_only(self, show):
        metadata = show(embed=None)
        assert len(cells(metadata["preview"])) == 3
        assert not metadata.keys() & {"nearest", "vector_map"}

    def test_rows_without_text_have_a_preview_only(self, show_here):
        metadata = show_here([{"id": 1, "title": " "}], embed=["title"])
        assert cells(metadata["preview"]) == [{"id": "1", "title": ""}]
        assert not metadata.keys() & {"nearest", "vector_map"}

    def test_one_row_has_no_nearest(self, show_here):
        metadata = show_here(FILMS[:1])
        assert "nearest" not in metadata
        assert "1 of 1 points" in metadata["vector_map"]

    def test_no_rows_at_all_are_no_trouble(self, show, caplog):
        metadata = show([])
        assert metadata["dagster/row_count"] == 0
        assert not metadata.keys() & {"preview", "nearest", "vector_map"}
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_rows_that_are_all_alike_are_no_trouble(self, show_here, caplog):
        metadata = show_here([{"id": n, "title": "same"} for n in range(20)], embed=["title"])
        assert [row["score"] for row in cells(metadata["nearest"])] == ["1.0"] * 6
        assert "vector_map" in metadata
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    def test_a_vector_that_is_not_finite_is_left_out(self):
        with connect(ConnectionOptions(location=":memory:nan")) as connection:
            connection.client.create_collection(
                "films", {"v": models.VectorParams(size=2, distance=models.Distance.DOT)}
            )
            points = [
                models.PointStruct.model_construct(id=n, vector={"v": vector}, payload={"n": n})
                for n, vector in enumerate([[1.0, 0.0], [float("inf"), 1.0], [0.0, 1.0]])
            ]
            connection.client.upsert("films", points)
            shown = Preview(
                connection,
                "films",
                key=["n"],
                embed=[],
                vector_name="v",
                distance="Cosine",
                total=3,
                with_rows=True,
                with_map=True,
            )
            ids, (finite, vectors) = shown._sample()
            entries = dict(shown.entries())
        assert (ids, finite) == ([0, 1, 2], [0, 2])
        assert np.isfinite(vectors).all()
        assert "2 of 3 points" in entries["vector_map"].value


class TestFailures:
    def test_a_collection_that_goes_meanwhile_is_no_failure_of_the_load(
        self, show, dataset, caplog, monkeypatch
    ):
        count = Collections.count

        def dropped_before(collections, collection, condition=None):
            collections.drop(collection)
            return count(collections, collection, condition)

        monkeypatch.setattr(Collections, "count", dropped_before)
        with caplog.at_level(logging.WARNING, "dagster_qdrant"):
            metadata = show()
        assert metadata["points_written"] == 3
        assert "dagster/row_count" not in metadata
        [warning] = [r.getMessage() for r in caplog.records if r.name.startswith("dagster_qdrant")]
        assert f"Collection `{dataset}_films` was loaded, but not all of it can be shown" in warning
        assert "QdrantNotFoundError" in warning

    def test_what_was_read_before_a_failure_is_shown(self, show_here, caplog, monkeypatch):
        from dagster_qdrant.pages import vector_map

        def no_font():
            raise OSError("no font")

        monkeypatch.setattr(vector_map, "_font", no_font)
        metadata = show_here()
        assert metadata["dagster/row_count"] == 3
        assert "nearest" in metadata
        assert "vector_map" not in metadata
        assert "OSError: no font" in caplog.text


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("a\tb\n\nc", "a b c"),
        ("x" * 30, "x" * 9 + "…"),
        ("x" * 10, "x" * 10),
        (" " * 100 + "x", "…"),
        ("\ud83d\x00\u202e!", "!"),
        (None, ""),
        ([1, "é"], '[1, "é"]'),
    ],
)
def test_a_value_is_cut_to_one_line(value, line):
    assert shorten(value, 10) == line
    shorten(value, 10).encode()
