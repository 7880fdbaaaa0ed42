"""Films and actors: the smallest of loads. Two resources become two assets of one dataset."""

from collections.abc import Iterator
from typing import Any

import dlt
from dagster import AssetExecutionContext

from dagster_qdrant import QdrantResource, qdrant_adapter, qdrant_assets

DATASET = "movies_dataset"

_FILMS = [
    (
        1,
        "Blade Runner",
        1982,
        "A detective hunts robots; one of them believes she is human.",
    ),
    (2, "Alien", 1979, "The crew of a freighter in space lets something deadly aboard."),
    (3, "Spirited Away", 2001, "A girl works in a bathhouse for spirits to win her parents back."),
    (4, "Groundhog Day", 1993, "A weatherman wakes up to the same morning again and again."),
    (5, "The Matrix", 1999, "A programmer learns that the world is a simulation run by machines."),
    (6, "Jaws", 1975, "A seaside town wants its beaches open although a shark is about."),
    (7, "Amelie", 2001, "A shy waitress in Paris secretly mends the lives of her neighbours."),
    (8, "Ex Machina", 2014, "A young man tests whether a robot has a mind, and she tests him."),
    (9, "Casablanca", 1942, "A bar owner in wartime meets the woman who once left him."),
    (10, "The Martian", 2015, "An astronaut left behind on Mars grows potatoes to survive."),
    (11, "Ratatouille", 2007, "A rat with a fine nose becomes the secret cook of a restaurant."),
    (12, "Memento", 2000, "A man who forgets everything in minutes looks for a murderer."),
    (13, "Moon", 2009, "A lonely miner on the Moon finds out that he is a copy of a man."),
]

_ACTORS = [
    (1, "Harrison Ford", "A former carpenter from Chicago, known as a smuggler and a professor."),
    (2, "Sigourney Weaver", "From New York; made the woman who survives space monsters famous."),
    (3, "Bill Murray", "A comedian from a large family in Illinois with a very dry face."),
    (4, "Audrey Tautou", "A French actress who also works as a photographer."),
    (5, "Ingrid Bergman", "From Stockholm; played in five languages and won three Oscars."),
    (6, "Alicia Vikander", "A Swede who trained as a dancer at the royal ballet school."),
    (7, "Sam Rockwell", "Grew up between San Francisco and New York, and dances in most roles."),
]


@dlt.resource(name="movies", primary_key="id", write_disposition="merge")
def movies() -> Iterator[dict[str, Any]]:
    """Films, each with its plot in a sentence."""
    for number, title, year, plot in _FILMS:
        yield {"id": number, "title": title, "year": year, "plot": plot}


@dlt.resource(name="actors", primary_key="id", write_disposition="merge")
def actors() -> Iterator[dict[str, Any]]:
    """Actors of these films."""
    for number, name, biography in _ACTORS:
        yield {"id": number, "name": name, "biography": biography}


@qdrant_assets(
    dlt_source=[
        qdrant_adapter(movies, embed=["title", "plot"]),
        qdrant_adapter(actors, embed=["name", "biography"]),
    ],
    dataset_name=DATASET,
    name="movies",
    group_name="movies",
    checks=True,
)
def movie_assets(context: AssetExecutionContext, qdrant: QdrantResource) -> Iterator[Any]:
    """Load both, or the one that was selected."""
    yield from qdrant.run(context)
