"""A comparison, and how all of them are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Comparison:
    """Two figures side by side.

    Args:
        case: Name of the case, as `--only` takes it.
        what: What was measured, with its unit.
        ours: Our figure.
        other: The figure it is held against.
        against: Whose figure that is.
        ratio: Which way round the two are divided.
        goal: What the ratio should be; None: it is shown for information.
        at: Whether the goal is the least or the most that the ratio may be.
    """

    case: str
    what: str
    ours: float
    other: float
    against: str
    ratio: Literal["ours / other", "other / ours"] = "ours / other"
    goal: float | None = None
    at: Literal["least", "most"] = "most"

    @property
    def value(self) -> float:
        """The ratio."""
        over, under = self.ours, self.other
        if self.ratio == "other / ours":
            over, under = under, over
        return over / under if under else float("inf")

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at == "least" else self.value <= self.goal

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "value": self.value, "met": self.met}


def show(console: Console, title: str, comparisons: Sequence[Comparison]) -> None:
    """Print a table."""
    table = Table("case", "what", title=title, title_justify="left")
    for name in ("ours", "other"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("the other is")
    for name in ("ratio", "goal", ""):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for each in comparisons:
        goal = "" if each.goal is None else f"{'≥' if each.at == 'least' else '≤'} {each.goal:g}"
        verdict = {True: "[green]met", False: "[red]missed", None: ""}[each.met]
        if last and each.case != last:
            table.add_section()
        table.add_row(
            each.case if each.case != last else "",
            each.what,
            _figure(each.ours),
            _figure(each.other),
            each.against,
            _figure(each.value),
            goal,
            verdict,
        )
        last = each.case
    console.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
