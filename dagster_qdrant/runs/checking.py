"""The asset checks of a run: which there are, and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
)
from dlt.common.json import json
from dlt.common.schema import Schema

from dagster_qdrant.destination.tables.hints import embeds_texts, keywords_of
from dagster_qdrant.destination.tables.resource_tables import (
    ResourceTables,
    has_rows,
    named_table,
)
from dagster_qdrant.errors import QdrantError
from dagster_qdrant.runs.checked_table import CheckedTable, Finding
from dagster_qdrant.runs.collection_checks import all_rows_present, collection_healthy, no_orphans
from dagster_qdrant.runs.failures import as_failure
from dagster_qdrant.runs.keyword_checks import all_keywords_present, keyword_lengths_fit
from dagster_qdrant.runs.last_load import LastLoad
from dagster_qdrant.runs.plan import QdrantAssetsPlan
from dagster_qdrant.runs.search_check import search_finds_row
from dagster_qdrant.runs.vector_checks import (
    all_vectors_present,
    no_text_cut,
    texts_in_chunks,
    unfit_vectors,
    vectors_valid,
)

if TYPE_CHECKING:
    from dlt.extract import DltResource

    from dagster_qdrant.destination.job_client import QdrantJobClient
    from dagster_qdrant.runs.options import QdrantOptions


@dataclass(frozen=True)
class _Check:
    """An asset check.

    Args:
        find: Makes it.
        description: What holds when it passes.
        needs: What a table has to be found by to have it; None: any table has it.
        severity: How bad it is when it fails. A warning never keeps assets from being materialized.
    """

    find: Callable[[CheckedTable], Finding]
    description: str
    needs: Literal["has_vectors", "embeds", "has_models", "keywords"] | None = None
    severity: AssetCheckSeverity = AssetCheckSeverity.ERROR

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
        _Check(all_vectors_present, "Every row with text has its vectors.", needs="embeds"),
        _Check(
            vectors_valid,
            "Vectors have the model's size and are finite (up to 256 of each are read).",
            needs="has_vectors",
        ),
        _Check(
            search_finds_row,
            "A search for the text of a row finds that row, by each of its vectors.",
            needs="has_vectors",
        ),
        _Check(
            no_text_cut,
            "No text is longer than the model's window (the longest of up to 256 are tried).",
            needs="has_models",
            severity=AssetCheckSeverity.WARN,
        ),
        _Check(
            all_keywords_present,
            "Rows whose text has keywords have the vector of these (up to 256 are read).",
            needs="keywords",
        ),
        _Check(
            keyword_lengths_fit,
            "Texts are about as long as those that keywords are weighed by (up to 256 are read).",
            needs="keywords",
            severity=AssetCheckSeverity.WARN,
        ),
    )
}

# Whether a resource asks for what a check needs.
_ASKS: Mapping[str, Callable[[DltResource], bool]] = {
    "has_vectors": lambda resource: embeds_texts(resource) or keywords_of(resource) is not None,
    "embeds": embeds_texts,
    "has_models": lambda resource: embeds_texts(resource) or _has_keyword_model(resource),
    "keywords": lambda resource: keywords_of(resource) is not None,
}


def _has_keyword_model(resource: DltResource) -> bool:
    keywords = keywords_of(resource)
    return keywords is not None and keywords.model is not None


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
        if check.needs is None or _ASKS[check.needs](plan.source.resources[resource_name])
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
        dlt_resource = plan.source.resources[resource_name]
        named = named_table(dlt_resource, plan.source.schema)
        last = LastLoad.latest(context.instance, asset_key, named)
        with as_failure(), _client(resource, plan, dlt_resource) as client:
            also = last.tables if last else ()
            tables = ResourceTables.of(dlt_resource, client.schema, also)
            checks = _AssetChecks(client, tables, last)
            results = [_result(asset_key, name, checks.find(name)) for name in names]
        yield from results


def check_loaded(
    client: QdrantJobClient,
    tables: ResourceTables,
    asset_key: AssetKey,
    names: Sequence[str],
    metadata: Mapping[str, Any],
) -> list[AssetCheckResult]:
    """Check the tables of an asset that was just loaded.

    Its load is complete. If Qdrant cannot be asked any more, a failure of the step would lead to
    the load being repeated, so the checks fail instead.

    Args:
        client: The job client of the load, entered.
        tables: The tables.
        asset_key: Their asset.
        names: The checks.
        metadata: What its materialization shows.
    """
    checks = _AssetChecks(client, tables, LastLoad.of(metadata, tables.named))
    results = []
    for name in names:
        try:
            finding = checks.find(name)
        except QdrantError as error:
            finding = Finding(False, f"It could not be checked: {error}")
        results.append(_result(asset_key, name, finding))
    return results


class _AssetChecks:
    """The checks of the tables of one asset.

    Args:
        client: The job client, entered.
        tables: The tables.
        last_load: What the last load left; None if nothing is known of one.
    """

    def __init__(
        self, client: QdrantJobClient, tables: ResourceTables, last_load: LastLoad | None
    ) -> None:
        self._client = client
        self._tables = tables
        self._last_load = last_load
        self._missing: list[str] = []
        self._found: dict[str, CheckedTable] = {}
        for name in tables.all:
            info = client.collections.describe(client.collections.name(name))
            if info is not None and name in client.schema.tables:
                self._found[name] = CheckedTable(client, name, info, last_load)
            elif self._is_expected(name) and (info is None or self._rows_of_last_load(name)):
                self._missing.append(name)

    def _is_expected(self, name: str) -> bool:
        """Whether there must be a collection of a table: there was one, or a row of it."""
        of_last_load = self._last_load.tables if self._last_load else ()
        return has_rows(self._client.schema, name) or name in of_last_load

    def _rows_of_last_load(self, name: str) -> int:
        return self._last_load.rows.get(name, 0) if self._last_load else 0

    def find(self, check_name: str) -> Finding:
        """Make a check.

        Raises:
            QdrantError: If Qdrant cannot be asked.
        """
        check, roots = _CHECKS[check_name], self._tables.roots
        needs = check.needs
        concerned = list(roots)
        if needs:
            concerned = [n for n in self._tables.all if n in roots or self._has(n, needs)]
        missing = [name for name in concerned if name in self._missing]
        found = [self._found[name] for name in concerned if name in self._found]
        if missing or not found:
            return self._not_there(missing)
        if needs is None:
            return _joined({table.name: check.find(table) for table in found})
        with_it = [table for table in found if getattr(table.plan, needs)]
        findings: dict[str, Finding] = {}
        if check.find is all_vectors_present:
            findings = {t.name: texts_in_chunks(t) for t in found if t.plan.chunks}
        for table in with_it:  # rows whose texts are in chunks may have further vectors themselves
            if table.name not in findings or findings[table.name].passed:
                unfit = None if needs == "keywords" else unfit_vectors(table)
                findings[table.name] = unfit or check.find(table)
        if not findings:
            return Finding(True, "Nothing of the table is found by these vectors.")
        return _joined(findings)

    def _has(self, name: str, needs: str) -> bool:
        return name in self._client.schema.tables and bool(getattr(self._client.plan(name), needs))

    def _not_there(self, missing: list[str]) -> Finding:
        last = self._last_load
        if not missing and last and not last.gave_rows:
            return Finding(True, "The resource has given no row so far.")
        if not missing and self._tables.named:
            missing = [self._tables.named]
        names = [f"`{self._client.collections.name(name)}`" for name in missing]
        what = f"no collection {' or '.join(names)}" if names else "no collection"
        return Finding(
            False,
            f"There is {what} that a load of this asset made. Was the asset never materialized, or "
            "was the collection deleted? Materialize the asset; an incremental resource needs "
            "`refresh='drop_resources'` for that.",
        )


def _joined(findings: Mapping[str, Finding]) -> Finding:
    """What was found in several tables, as one."""
    if len(findings) == 1:
        return next(iter(findings.values()))
    told = {name: each for name, each in findings.items() if not each.passed} or findings
    return Finding(
        all(finding.passed for finding in findings.values()),
        " ".join(
            each if len(told) == 1 else f"`{name}`: {each}"
            for name, each in ((name, finding.description) for name, finding in told.items())
        ),
        {
            key if key.startswith(f"{name}_") else f"{name}_{key}": number
            for name, finding in findings.items()
            for key, number in finding.numbers.items()
        },
    )


def names_of(selected: Set[AssetCheckKey], asset_key: AssetKey) -> list[str]:
    """The selected checks of an asset."""
    return sorted(key.name for key in selected if key.asset_key == asset_key)


def _result(asset_key: AssetKey, name: str, finding: Finding) -> AssetCheckResult:
    return AssetCheckResult(
        passed=finding.passed,
        asset_key=asset_key,
        check_name=name,
        severity=_CHECKS[name].severity,
        description=finding.description,
        metadata=finding.numbers,
    )


@contextmanager
def _client(
    resource: QdrantOptions, plan: QdrantAssetsPlan, dlt_resource: DltResource
) -> Iterator[QdrantJobClient]:
    """A job client with the latest schema that was loaded of a resource."""
    destination = resource.destination()
    config = destination.spec()
    config.dataset_name = plan.dataset(resource.configuration())
    with destination.client(plan.source.schema.clone(), config) as client:
        stored = client.get_stored_schema_of(
            dlt_resource.name, named_table(dlt_resource, plan.source.schema)
        )
        if stored is not None:
            client.schema = Schema.from_stored_schema(json.loads(stored.schema))
        yield client
