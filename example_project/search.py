"""An asset downstream of the loaded ones: it asks them questions and shows the answers."""

from dataclasses import dataclass
from typing import Any

from dagster import (
    AssetExecutionContext,
    AutomationCondition,
    MaterializeResult,
    MetadataValue,
    asset,
)

from dagster_qdrant import QdrantResource
from example_project import movies, python_docs, shop


@dataclass(frozen=True)
class Question:
    """Something to look for.

    Args:
        dataset: The dataset to look in.
        table: The table to look in.
        text: What to look for.
        shown: The column that names an answer.
        described: The column that says more of it.
    """

    dataset: str
    table: str
    text: str
    shown: str
    described: str


@dataclass(frozen=True)
class Answer:
    """A row that was found.

    Args:
        score: How near it is in meaning, 1 at most.
        name: What it is.
        description: What it says.
    """

    score: float
    name: str
    description: str


QUESTIONS = [
    *(
        Question(python_docs.DATASET, python_docs.TABLE, text, "id", "summary")
        for text in (
            "compress a file",
            "parse a date from a string",
            "run a program and read its output",
            "pick random items from a list",
        )
    ),
    Question(movies.DATASET, "movies", "a robot that thinks it is human", "title", "plot"),
    Question(movies.DATASET, "actors", "a Swedish dancer", "name", "biography"),
    Question(shop.DATASET, "products", "a camping trip", "name", "description"),
    Question(shop.DATASET, "reviews", "a part broke", "stars", "text"),
]


def ask(qdrant: QdrantResource, question: Question, limit: int = 3) -> list[Answer]:
    """The rows nearest in meaning to a question."""
    hits = qdrant.search(question.dataset, question.table, question.text, limit=limit)
    return [
        Answer(
            score=hit.score,
            name=str((hit.payload or {}).get(question.shown, "")),
            description=str((hit.payload or {}).get(question.described, "")),
        )
        for hit in hits
    ]


@asset(
    deps=[
        [python_docs.DATASET, python_docs.TABLE],
        [movies.DATASET, "movies"],
        [movies.DATASET, "actors"],
        [shop.DATASET, "products"],
        [shop.DATASET, "reviews"],
    ],
    group_name="search",
    kinds={"qdrant"},
    # Asked again as soon as something upstream was loaded.
    automation_condition=AutomationCondition.eager(),
)
def answers(context: AssetExecutionContext, qdrant: QdrantResource) -> MaterializeResult[Any]:
    """Answers to a few questions, as a table in the metadata."""
    lines = ["| question | score | answer | what it says |", "| --- | ---: | --- | --- |"]
    # A client that stays open: a local folder is read anew each time it is opened.
    with qdrant.get_client():
        found = [(question, answer) for question in QUESTIONS for answer in ask(qdrant, question)]
    for question, answer in found:
        cells = (question.text, f"{answer.score:.2f}", answer.name, answer.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    context.log.info("Asked %d questions, got %d answers.", len(QUESTIONS), len(found))
    return MaterializeResult(
        metadata={"answers": MetadataValue.md("\n".join(lines)), "answers_found": len(found)}
    )
