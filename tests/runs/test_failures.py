"""What a run says that fails, and whether it is tried again."""

import re
from collections.abc import Iterator
from typing import Any

import dagster as dg
import dlt
import pytest

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets
from tests.targets import memory


@pytest.fixture
def qdrant_target(tmp_path, dataset):
    with memory(tmp_path) as target:
        yield target


@dlt.resource(
    name="films", schema_contract={"data_type": "freeze"}, columns={"id": {"data_type": "bigint"}}
)
def of_a_contract() -> Iterator[Any]:
    yield [{"id": 1, "title": "Alien"}, {"id": "two", "title": "Moon"}]


@dlt.resource(name="films", columns={"title": {"nullable": False}})
def with_a_null() -> Iterator[Any]:
    yield [{"id": 1, "title": "Alien"}, {"id": 2, "title": None}]


@dlt.resource(name="films")
def with_a_large_number() -> Iterator[Any]:
    yield [{"id": 1, "title": "Alien", "gross": 1}, {"id": 2, "title": "Moon", "gross": 1e20}]


@dlt.resource(
    name="films", primary_key="id", write_disposition={"disposition": "merge", "strategy": "scd2"}
)
def of_a_strategy() -> Iterator[Any]:
    yield {"id": 1, "title": "Alien"}


@dlt.resource(name="films")
def with_a_secret(token: str = dlt.secrets.value) -> Iterator[Any]:
    yield {"id": 1, "title": token}


@dlt.resource(name="films")
def that_fails() -> Iterator[Any]:
    yield {"id": 1, "title": "Alien"}
    raise ConnectionError("the cinema is closed")


def whose_row_fails() -> Any:
    def fail(row: Any) -> Any:
        raise KeyError("plot")

    return dlt.resource([{"id": 1, "title": "Alien"}], name="films").add_map(fail)


def whose_transformer_fails() -> Any:
    @dlt.transformer(name="films")
    def films(row: Any) -> Iterator[Any]:
        raise ConnectionError("the cinema is closed")
        yield row

    return dlt.resource([{"id": 1}], name="ids", selected=False) | films()


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, int]:
    """What was said first, and how often it was tried again."""
    [event] = result.filter_events(lambda event: event.is_step_failure)
    data = event.event_specific_data
    first = (data.user_failure_data.description or "").splitlines()[0]
    shown = [
        *data.error.message.splitlines(),
        *str(data.error.cause and data.error.cause.message).splitlines(),
    ]
    assert any(first in line for line in shown)
    assert "ending packages" not in data.error.to_string()
    return first, len(list(result.filter_events(lambda event: event.is_step_up_for_retry)))


@pytest.fixture
def run(resource, dataset):
    def run(source: Any, **options: Any) -> tuple[str, int]:
        @qdrant_assets(
            dlt_source=qdrant_adapter(dlt.resource([], name="films"), embed="title"),
            dataset_name=dataset,
            retry_policy=dg.RetryPolicy(max_retries=1),
            partitions_def=options.pop("partitions_def", None),
        )
        def assets(context: dg.AssetExecutionContext, qdrant: QdrantResource):
            yield from qdrant.run(context, dlt_source=source)

        return failure(
            dg.materialize(
                [assets], resources={"qdrant": resource}, raise_on_error=False, **options
            )
        )

    return run


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            of_a_contract,
            "DataValidationError: .*`films` Column: `id__v_text`.*contract_mode=freeze",
        ),
        (with_a_null, "CannotCoerceNullException: .*`films` column `title`"),
        (with_a_large_number, "^A column of whole numbers has .* Declare the column as `double`"),
        (of_a_strategy, "^Table `films` asks for the merge strategy 'scd2'"),
        (with_a_secret, "ConfigFieldMissingException: Missing 1 field.*`token`"),
    ],
)
def test_what_cannot_help_is_not_tried_again_and_says_first_why(run, source, words):
    first, retries = run(qdrant_adapter(source(), embed="title"))
    assert re.search(words, first), first
    assert retries == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (that_fails, "Resource `films`: ConnectionError: the cinema is closed"),
        (whose_row_fails, "Resource `films`: KeyError: 'plot'"),
        (whose_transformer_fails, "Resource `films`: ConnectionError: the cinema is closed"),
    ],
)
def test_a_source_that_fails_says_so_first_and_is_tried_again(run, source, words):
    assert run(qdrant_adapter(source(), embed="title")) == (words, 1)


def test_a_function_of_a_partition_that_fails_says_so_first_and_is_tried_again(run):
    def source(year: str) -> Any:
        raise ConnectionError(f"the cinema of {year} is closed")

    said = run(source, partitions_def=dg.StaticPartitionsDefinition(["1982"]), partition_key="1982")
    assert said == ("ConnectionError: the cinema of 1982 is closed", 1)
