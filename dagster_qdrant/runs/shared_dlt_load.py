"""One load of a source in several steps: begun by the first, loaded in parts, ended by the last."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from dlt.common.configuration.container import Container
from dlt.common.storages.load_package import (
    LoadPackageStateInjectableContext,
    PackageStorage,
    ParsedLoadJobFileName,
)
from dlt.load.configuration import LoaderConfiguration
from dlt.load.load import Load

from dagster_qdrant.destination.job_client import QdrantJobClient
from dagster_qdrant.destination.loads.load_leases import end_lease
from dagster_qdrant.destination.loads.load_parts import cut
from dagster_qdrant.destination.loads.loaded_rows import forget
from dagster_qdrant.destination.loads.shared_load import Share, part_rows, set_share
from dagster_qdrant.destination.loads.state_merge import base_states
from dagster_qdrant.destination.writing.load_counts import load_reports
from dagster_qdrant.runs.data_version import FormerVersion
from dagster_qdrant.runs.dlt_load import DltLoad, opened_pipeline
from dagster_qdrant.runs.shared_package import (
    BegunLoad,
    LoadedPart,
    SharedPackage,
    as_jobs,
    as_loaded,
    files_in,
    folder_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlt import Pipeline
    from dlt.common.pipeline import LoadInfo

    from dagster_qdrant.runs.dlt_load import Part
    from dagster_qdrant.runs.interruption import Interruption
    from dagster_qdrant.runs.options import QdrantOptions

logger = logging.getLogger(__name__)

# What dlt did so far, with all of its configuration; it does not have to travel.
_TRACE = "trace.pickle"
# With fewer rows, a worker of their own would take longer to begin than to load them.
LEAST_ROWS = 256


class BeginningLoad(DltLoad):
    """The first step: the source is read, the load is written down, its rows are cut into parts."""

    _embeds_here = False

    def begin(self, client: QdrantJobClient, owner: str, workers: int) -> CutLoad:
        """Begin the load of what was extracted, up to its first row.

        Args:
            client: The destination's client.
            owner: Whose load it is.
            workers: How many parts there may be.
        """
        step = Load(
            self._pipeline.destination,
            config=LoaderConfiguration(_load_storage_config=self._pipeline._load_storage_config()),
            initial_client_config=client.config,
        )
        packages = step.load_storage.normalized_packages
        # The state goes into the pipeline's default schema, which may be a load of its own. The
        # last step loads that.
        schemas = {each: packages.load_schema(each) for each in packages.list_packages()}
        own = [each for each, schema in schemas.items() if schema.name == self._schema_name]
        if not own:
            return CutLoad(self, None)
        [load_id] = own
        try:
            with _at_work_on(packages, load_id):
                set_share(Share(owner))
                new_jobs = step.get_new_jobs_info(load_id)
                with self._loaded.timed("load"):
                    step.initialize_package(load_id, schemas[load_id], new_jobs)
                with self._loaded.timed("cut"), step.get_destination_client(schemas[load_id]) as to:
                    begun = self._cut(cast(QdrantJobClient, to), load_id, packages, workers)
        except BaseException:
            self._give_up(client)
            raise
        end_lease(load_id)  # other steps have their own
        return begun

    def _cut(
        self, client: QdrantJobClient, load_id: str, packages: PackageStorage, workers: int
    ) -> CutLoad:
        """Cut the rows into parts, but for those of dlt's own tables."""
        jobs = map(Path, packages.list_new_jobs(load_id))
        own = set(client.schema.dlt_table_names())
        files = [
            Path(packages.storage.make_full_path(str(path)))
            for path in jobs
            if ParsedLoadJobFileName.parse(path.name).table_name not in own
        ]
        parts = cut(
            files,
            self._number_of_parts(client, workers),
            self._entered.enter_context(_folder()),
            load_id=load_id,
            plan_of=client.plan,
            config=client.config,
        )
        return CutLoad(self, load_id, files, parts)

    def _number_of_parts(self, client: QdrantJobClient, workers: int) -> int:
        if client.connection.options.path is not None:
            logger.info("A `path` serves one process at a time, so one worker loads all rows.")
            return 1
        tables = set(client.schema.data_table_names())
        rows = sum(n for name, n in self._loaded.last_rows.items() if name in tables)
        return max(1, min(workers, math.ceil(rows / LEAST_ROWS)))


class CutLoad:
    """A load that is begun and cut into parts, as packages for the steps to come.

    Args:
        load: The first step.
        load_id: dlt's id of the load; None if there is nothing to load.
        files: The files of its rows, but for those of dlt's own tables.
        parts: The files that they are cut into, by part.
    """

    def __init__(
        self,
        load: BeginningLoad,
        load_id: str | None,
        files: Sequence[Path] = (),
        parts: Sequence[Sequence[Path]] = ((),),
    ) -> None:
        self._load = load
        self._load_id = load_id
        self._whole = files
        self._parts = parts

    @property
    def parts(self) -> int:
        """How many parts there are; one, perhaps without rows, if there are no rows."""
        return len(self._parts)

    def begun(self, former: Mapping[str, FormerVersion | None]) -> BegunLoad:
        """What the last step needs.

        Args:
            former: The data versions that the assets had before.
        """
        pipeline = self._load._pipeline
        whole = {path.name for path in self._whole}
        files = self._files(lambda name: Path(name).name not in whole)
        if self._load_id is not None:
            files |= as_loaded(self._load_id, self._whole)
        loads = pipeline.list_normalized_load_packages()
        return BegunLoad(
            self._package(files),
            self.parts,
            base_states={load_id: base_states.pop(load_id) for load_id in loads},
            counts=load_reports.take(self._load_id) if self._load_id else {},
            loaded=self._load.loaded,
            former=former,
        )

    def part(self, number: int) -> SharedPackage | None:
        """What the step needs that loads a part; None if there is nothing in it.

        Args:
            number: The part, from 1.
        """
        rows = self._parts[number - 1] if number <= len(self._parts) else ()
        if self._load_id is None or not rows:
            return None
        files = self._files(self._is_of_part) | as_jobs(self._load_id, rows)
        return replace(self._package(files), part=(number, self.parts))

    def _is_of_part(self, name: str) -> bool:
        """Whether parts need a file: those of their load's package, without any rows."""
        in_package = name.startswith(f"{folder_of(self._load_id or '')}/")
        return not name.startswith(folder_of("")) or (
            in_package and PackageStorage.NEW_JOBS_FOLDER not in Path(name).parts
        )

    def _files(self, is_wanted: Callable[[str], bool]) -> dict[str, bytes]:
        folder = Path(self._load._pipeline.working_dir)
        return files_in(folder, lambda name: name != _TRACE and is_wanted(name))

    def _package(self, files: Mapping[str, bytes]) -> SharedPackage:
        pipeline, load = self._load._pipeline, self._load
        return SharedPackage(
            pipeline_name=pipeline.pipeline_name,
            dataset=pipeline.dataset_name,
            schema_name=load._schema_name,
            partition=load._part.partition,
            load_id=self._load_id,
            files=files,
        )


def load_part(resource: QdrantOptions, package: SharedPackage, owner: str) -> LoadedPart:
    """Load a part of a load that is begun. Doing it again changes nothing.

    Args:
        resource: The place and the options.
        package: The part.
        owner: Whose load it is by now.
    """
    if package.load_id is None or package.part is None:  # there was nothing to load
        return LoadedPart(0)
    start = time.monotonic()
    try:
        with _unpacked(resource, package, owner) as pipeline:
            pipeline.load()
        [rows] = part_rows.take(package.load_id)
        counts = load_reports.take(package.load_id)
    finally:
        _let_go(package.load_id)
    tables = [
        f"{name} {each.rows:,} rows, {each.embedded:,} embedded, {each.reused:,} reused"
        for name, each in sorted(counts.items())
    ]
    seconds = time.monotonic() - start
    logger.info("Loaded in %.1f s: %s.", seconds, "; ".join(tables) or "no rows")
    return LoadedPart(package.part[0], counts, rows, seconds)


class EndingLoad(DltLoad):
    """The last step: what no part has is loaded, and the load is complete.

    Args:
        part: What is loaded.
        resource: The place and the options.
        interruption: What watches for signals that tell the run to stop.
        owner: Whose load it is by now.
        begun: What the first step handed over.
        parts: What became of the parts.
    """

    def __init__(
        self,
        part: Part,
        resource: QdrantOptions,
        interruption: Interruption,
        *,
        owner: str,
        begun: BegunLoad,
        parts: Sequence[LoadedPart],
    ) -> None:
        super().__init__(part, resource, deepcopy(begun.loaded), interruption)
        self._owner = owner
        self._begun_load = begun
        self._loaded_parts = parts

    @property
    def _schema_name(self) -> str:
        return self._begun_load.package.schema_name

    def _open_pipeline(self) -> AbstractContextManager[Pipeline]:
        return _unpacked(self._resource, self._begun_load.package, self._owner)

    def _load_or_give_up(self, client: QdrantJobClient) -> LoadInfo:
        """End the load. It is not given up if that fails: the step may be tried again."""
        begun, load_id = self._begun_load, self._begun_load.package.load_id
        base_states.update(begun.base_states)
        if load_id is None:
            return self._pipeline.load()
        seconds = self._loaded.seconds
        seconds["load"] += max((part.seconds for part in self._loaded_parts), default=0.0)
        try:
            for table, counts in begun.counts.items():
                load_reports.add(load_id, table, counts)
            for part in self._loaded_parts:
                part_rows.add(load_id, part.rows)
                for table, counts in part.counts.items():
                    load_reports.add(load_id, table, counts)
            return self._pipeline.load()
        except BaseException:
            load_reports.take(load_id)
            raise
        finally:
            _let_go(load_id)


def _let_go(load_id: str) -> None:
    """Forget what this process knows of a load: another step may go on with it."""
    part_rows.take(load_id)
    end_lease(load_id)
    forget(load_id)


@contextmanager
def _unpacked(resource: QdrantOptions, package: SharedPackage, owner: str) -> Iterator[Pipeline]:
    with opened_pipeline(
        resource, package.pipeline_name, package.dataset, package.partition, package.unpack
    ) as pipeline:
        if package.load_id is not None:
            packages = pipeline._get_load_storage().normalized_packages
            with _at_work_on(packages, package.load_id):
                set_share(Share(owner, begun=True, part=package.part and package.part[0]))
        yield pipeline


@contextmanager
def _at_work_on(packages: PackageStorage, load_id: str) -> Iterator[None]:
    """Let dlt know which package is at work on."""
    with Container().injectable_context(
        LoadPackageStateInjectableContext(storage=packages, load_id=load_id)
    ):
        yield


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="dagster_qdrant_parts_") as folder:
        yield Path(folder)
