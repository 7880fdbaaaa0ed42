"""Cut the rows of a load into parts that are loaded apart from one another.

All rows of a part's tables are cut by the points that they become: rows of one key, or equal ones,
are in one part, in their order. So no two parts ever write one point, and what holds for rows of a
key within a load (which counts, which is the second of two) holds for parts too.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from dlt.common.storages.load_package import ParsedLoadJobFileName

from dagster_qdrant.destination.configuration import QdrantDestinationConfiguration
from dagster_qdrant.destination.tables.table_plan import TablePlan
from dagster_qdrant.destination.writing.row_file import RowFile
from dagster_qdrant.stopping import refuse_if_stopping

_LOOK = 1_000  # rows between two looks whether to stop
_ID_BITS = 32


def cut(
    files: Iterable[Path],
    parts: int,
    folder: Path,
    *,
    load_id: str,
    plan_of: Callable[[str], TablePlan],
    config: QdrantDestinationConfiguration,
) -> list[list[Path]]:
    """Cut files of rows into those of parts.

    Args:
        files: The files, as dlt made them.
        parts: How many parts there shall be.
        folder: Where the new files go.
        load_id: The load.
        plan_of: The plan of a table.
        config: The destination's options.

    Returns:
        The files of each part. One that would be empty is not made.
    """
    by_table: dict[str, list[Path]] = {}
    for path in sorted(files):
        by_table.setdefault(ParsedLoadJobFileName.parse(path.name).table_name, []).append(path)
    cut_files: list[list[Path]] = [[] for _ in range(parts)]
    for table_name, paths in by_table.items():
        name = ParsedLoadJobFileName.parse(paths[0].name)
        file_id, plan = ParsedLoadJobFileName.new_file_id(), plan_of(table_name)
        with ExitStack() as opened:
            writers: dict[int, gzip.GzipFile] = {}
            for line, point_id in _lines(paths, plan, config, load_id):
                part = int(point_id[: _ID_BITS // 4], 16) * parts >> _ID_BITS
                if part not in writers:
                    new = name._replace(file_id=f"{file_id}{part}", is_compressed=True)
                    path = folder / new.file_name()
                    writers[part] = opened.enter_context(gzip.open(path, "wb", compresslevel=1))
                    cut_files[part].append(path)
                writers[part].write(line.rstrip("\n").encode("utf-8", "surrogatepass") + b"\n")
    return cut_files


def _lines(
    paths: Iterable[Path], plan: TablePlan, config: QdrantDestinationConfiguration, load_id: str
) -> Iterator[tuple[str, str]]:
    for path in paths:
        for number, line in enumerate(RowFile(path, plan, config, load_id).lines()):
            if not number % _LOOK:
                refuse_if_stopping()
            yield line
