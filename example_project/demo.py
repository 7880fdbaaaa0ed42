"""`python -m example_project.demo`: load everything through Dagster, then search it."""

from __future__ import annotations

import logging
import os
import time

from dagster import (
    AssetMaterialization,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    InitLoggerContext,
    logger,
)
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from example_project.automation import jobs
from example_project.definitions import defs
from example_project.notes import INBOX, inbox_files
from example_project.search import QUESTIONS, ask
from example_project.settings import qdrant_resource

console = Console()


class _ProgressHandler(logging.Handler):
    """Shows what a run says beside the spinner, and keeps what went wrong on the screen."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        super().__init__()
        self._progress = progress
        self._task = task

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message."""
        if record.levelno >= logging.WARNING:
            console.print(record.getMessage(), style="yellow", markup=False)
        else:
            message = getattr(record, "dagster_meta", {}).get("orig_message") or ""
            self._progress.update(self._task, message=message)


def run_job(name: str, instance: DagsterInstance) -> ExecuteInProcessResult:
    """Run a job of the project in this process, with a spinner instead of Dagster's log."""
    columns = (
        SpinnerColumn(),
        TextColumn("[bold]{task.description}[/bold]"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", style="dim", markup=False),
    )
    quiet = not console.is_terminal  # A file has no use for a spinner.
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task(name, total=None, message="")

        @logger
        def spinner(_: InitLoggerContext) -> logging.Logger:
            """Takes the place of Dagster's logger, which prints every event."""
            log = logging.Logger(name, level=logging.INFO)  # noqa: LOG001  (of this run alone)
            log.addHandler(_ProgressHandler(progress, task))
            return log

        shown = Definitions.merge(defs, Definitions(loggers={"spinner": spinner}))
        return shown.resolve_job_def(name).execute_in_process(
            instance=instance, run_config={"loggers": {"spinner": {}}}
        )


def load_all(instance: DagsterInstance) -> None:
    """Run every job and print a line for each asset."""
    total = {"embedded": 0, "reused": 0}
    for job in jobs:
        start = time.monotonic()
        result = run_job(job.name, instance)
        seconds = time.monotonic() - start
        console.print(f"[green]✓[/green] [bold]{job.name}[/bold]  {seconds:.1f} s")
        for event in result.get_asset_materialization_events():
            materialization = event.step_materialization_data.materialization
            console.print(f"    {_describe(materialization)}")
            for what in total:
                total[what] += _number(materialization, f"rows_{what}")
    console.print(
        f"\n{total['embedded']:,} rows were embedded, {total['reused']:,} kept their vectors. "
        + ("Run it again: nothing will have changed." if total["embedded"] else "Nothing changed.")
    )


def _describe(materialization: AssetMaterialization) -> str:
    name = materialization.asset_key.to_user_string()
    if "dagster/row_count" not in materialization.metadata:
        return f"{name:28} {_number(materialization, 'answers_found'):>6,} answers"
    names = ("dagster/row_count", "rows_embedded", "rows_reused")
    rows, embedded, reused = (_number(materialization, key) for key in names)
    return f"{name:28} {rows:>6,} rows  {embedded:>6,} embedded  {reused:>6,} reused"


def _number(materialization: AssetMaterialization, name: str) -> int:
    value = materialization.metadata.get(name)
    return int(str(value.value)) if value else 0


def show_answers() -> None:
    """Ask the questions of the project and print a table for each."""
    qdrant = qdrant_resource()
    with qdrant.get_client():  # stays open, as in `search.py`
        for question in QUESTIONS:
            start = time.monotonic()
            answers = ask(qdrant, question)
            took = (time.monotonic() - start) * 1000
            console.print(
                f"[bold]“{question.text}”[/bold] in {question.dataset}.{question.table} "
                f"[dim]({took:.0f} ms)[/dim]"
            )
            table = Table(box=box.SIMPLE_HEAD, expand=True)
            table.add_column("score", justify="right", style="cyan", width=5)
            table.add_column(question.shown, style="green", no_wrap=True)
            table.add_column(question.described, ratio=1, no_wrap=True, overflow="ellipsis")
            for answer in answers:
                table.add_row(f"{answer.score:.2f}", answer.name, answer.description)
            console.print(table)


def main() -> None:
    """Load and search."""
    logging.getLogger("dlt").setLevel(logging.WARNING)
    if not inbox_files():
        note = "The spare key to the shop lies under the third flower pot.\n"
        (INBOX / "example.md").write_text(note, encoding="utf-8")
    # With DAGSTER_HOME set, `dagster dev` shows these runs too.
    home = os.environ.get("DAGSTER_HOME")
    with DagsterInstance.get() if home else DagsterInstance.ephemeral() as instance:
        start = time.monotonic()
        load_all(instance)
        console.print(f"Loaded in {time.monotonic() - start:.1f} s.\n")
    show_answers()


if __name__ == "__main__":
    main()
