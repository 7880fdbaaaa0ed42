"""The asset checks of a run: which there are, and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
)
from dlt.common.json import json
from dlt.common.schema import Schema

from dagster_qdrant.errors import QdrantError
from dagster_qdrant.runs.checked_table import CheckedTable, Finding
from dagster_qdrant.runs.collection_checks import all_rows_present, collection_healthy, no_orphans
from dagster_qdrant.runs.failures import as_failure
from dagster_qdrant.runs.last_load import LastLoad
from dagster_qdrant.runs.plan import QdrantAssetsPlan
from dagster_qdrant.runs.vector_checks import (
    all_vectors_present,
    search_finds_row,
    unfit_vectors,
    vectors_valid,
)
from dagster_qdrant.translator import embedded_columns

if TYPE_CHECKING:
    from dagster_qdrant.destination.job_client import QdrantJobClient
    from dagster_qdrant.runs.options import QdrantOptions


@dataclass(frozen=True)
class _Check:
    """An asset check.

    Args:
        find: Makes it.
        description: What holds when it passes.
        of_vectors: Whether only tables with embedded columns have it.
    """

    find: Callable[[CheckedTable], Finding]
    description: str
    of_vectors: bool = False

    @property
    def name(self) -> str:
        """Its name, which is its function's."""
        return self.find.__name__


_CHECKS = {
    check.name: check
    for check in (
        _Check(
            all_rows_present,
            "The rows of the last load are in the collection, and none has gone since.",
        ),
        _Check(
            no_orphans,
            "Rows of nested tables have the row that they belong to (up to 1,000 are read).",
        ),
        _Check(collection_healthy, "Qdrant reports no failure, and the payload indexes are there."),
        _Check(all_vectors_present, "Every row with text has its vector.", of_vectors=True),
        _Check(
            vectors_valid,
            "Vectors have the model's size and are finite (up to 256 are read).",
            of_vectors=True,
        ),
        _Check(search_finds_row, "A search for the text of a row finds that row.", of_vectors=True),
    )
}


def check_specs(
    plan: QdrantAssetsPlan, keys: Mapping[str, AssetKey], *, blocking: bool
) -> list[AssetCheckSpec]:
    """The specs of the checks of assets.

    Args:
        plan: What the assets load.
        keys: Their keys by the name of their resource.
        blocking: Whether a check that fails keeps assets downstream from being materialized.
    """
    return [
        AssetCheckSpec(check.name, asset=key, description=check.description, blocking=blocking)
        for resource_name, key in keys.items()
        for check in _CHECKS.values()
        if not check.of_vectors or embedded_columns(plan.source.resources[resource_name])
    ]


def refuse_unknown_checks(checks: Any) -> None:
    """Refuse a choice of checks that there is not.

    Raises:
        ValueError: If it is something else than a boolean or "blocking".
    """
    if checks not in (True, False, "blocking"):
        raise ValueError(f'`checks` is {checks!r}; it must be True, False or "blocking".')


def check_apart(
    resource: QdrantOptions,
    plan: QdrantAssetsPlan,
    keys: Mapping[str, AssetKey],
    context: Union[AssetCheckExecutionContext, AssetExecutionContext],
    selected: Set[AssetCheckKey],
) -> Iterator[AssetCheckResult]:
    """Check what former runs have loaded.

    Args:
        resource: The place and the options.
        plan: What the assets load.
        keys: Their keys by the name of their resource.
        context: The context of the checks.
        selected: The checks.

    Raises:
        dagster.Failure: If Qdrant cannot be asked.
    """
    for resource_name, asset_key in keys.items():
        names = names_of(selected, asset_key)
        if not names:
            continue
        event = context.instance.get_latest_materialization_event(asset_key)
        metadata = event.asset_materialization.metadata if event else None
        shown = {name: entry.value for name, entry in (metadata or {}).items()}
        table_name = plan.table_name(plan.source.resources[resource_name])
        with as_failure(), _client(resource, plan, table_name) as client:
            checks = _TableChecks(client, table_name, LastLoad.of(shown))
            results = [_result(asset_key, name, checks.find(name)) for name in names]
        yield from results


def check_loaded(
    client: QdrantJobClient,
    table_name: str,
    asset_key: AssetKey,
    names: Sequence[str],
    metadata: Mapping[str, Any],
) -> list[AssetCheckResult]:
    """Check a table that was just loaded.

    Its load is complete. If Qdrant cannot be asked any more, a failure of the step would lead to
    the load being repeated, so the checks fail instead.

    Args:
        client: The job client of the load, entered.
        table_name: The table.
        asset_key: Its asset.
        names: The checks.
        metadata: What its materialization shows.
    """
    checks = _TableChecks(client, table_name, LastLoad.of(metadata))
    results = []
    for name in names:
        try:
            finding = checks.find(name)
        except QdrantError as error:
            finding = Finding(False, f"It could not be checked: {error}")
        results.append(_result(asset_key, name, finding))
    return results


class _TableChecks:
    """The checks of one table.

    Args:
        client: The job client, entered.
        table_name: The table, as dlt named it.
        last_load: What the last load left; None if nothing is known of one.
    """

    def __init__(
        self, client: QdrantJobClient, table_name: str, last_load: LastLoad | None
    ) -> None:
        self._last_load = last_load
        self._collection = client.collections.name(table_name)
        info = client.collections.describe(self._collection)
        self._table: CheckedTable | None = None
        if info is not None and table_name in client.schema.tables:
            self._table = CheckedTable(client, table_name, info, last_load)

    def find(self, check_name: str) -> Finding:
        """Make a check.

        Raises:
            QdrantError: If Qdrant cannot be asked.
        """
        check, table = _CHECKS[check_name], self._table
        if table is None:
            return self._nothing_there()
        if check.of_vectors:
            if not table.plan.embed:
                return Finding(True, "No column of the table is embedded.")
            if unfit := unfit_vectors(table):
                return unfit
        return check.find(table)

    def _nothing_there(self) -> Finding:
        if self._last_load and not self._last_load.row_count:
            return Finding(True, "The resource has given no row so far.")
        return Finding(
            False,
            f"There is no collection `{self._collection}` that a load of this table made. Was the "
            "asset never materialized, or was the collection deleted? Materialize the asset.",
        )


def names_of(selected: Set[AssetCheckKey], asset_key: AssetKey) -> list[str]:
    """The selected checks of an asset."""
    return sorted(key.name for key in selected if key.asset_key == asset_key)


def _result(asset_key: AssetKey, name: str, finding: Finding) -> AssetCheckResult:
    return AssetCheckResult(
        passed=finding.passed,
        asset_key=asset_key,
        check_name=name,
        description=finding.description,
        metadata=finding.numbers,
    )


@contextmanager
def _client(
    resource: QdrantOptions, plan: QdrantAssetsPlan, table_name: str
) -> Iterator[QdrantJobClient]:
    """A job client with the latest schema that was loaded of a table."""
    destination = resource.destination()
    config = destination.spec()
    config.dataset_name = plan.normalized_dataset_name
    with destination.client(plan.source.schema.clone(), config) as client:
        stored = client.get_stored_schema_with(table_name)
        if stored is not None:
            client.schema = Schema.from_stored_schema(json.loads(stored.schema))
        yield client
