"""The shop's SQLite file. It stands for a database that you have; no Dagster and no dlt in here."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

_SCHEMA = [
    """
    CREATE TABLE products (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        price DECIMAL(8, 2) NOT NULL,
        description TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE reviews (
        id INTEGER PRIMARY KEY,
        product_id INTEGER NOT NULL REFERENCES products (id),
        stars INTEGER NOT NULL,
        text TEXT NOT NULL,
        created_at TIMESTAMP NOT NULL
    )
    """,
]

_PRODUCTS = [
    ("Kettle", 34.90, "Boils a litre of water in three minutes and switches itself off."),
    ("Headlamp", 24.50, "A light for the forehead, for walks and repairs in the dark."),
    ("Tent", 189.00, "A camping home for two; stands up to wind and heavy rain."),
    ("Desk lamp", 49.00, "Warm, dimmable light for reading and working at night."),
    ("Rain jacket", 99.00, "Keeps the weather out, folds into its own pocket."),
    ("Headphones", 129.00, "Cancel the noise of trains and open-plan offices."),
    ("Cast iron pan", 59.00, "Sears steaks on any stove and outlives its owner."),
    ("Bicycle pump", 19.90, "Small enough for a saddle bag, strong enough for road tyres."),
    ("Yoga mat", 29.00, "Does not slip, rolls up small, made of natural rubber."),
    ("Coffee grinder", 79.00, "Ceramic burrs, twenty degrees of coarseness, turned by hand."),
]

_REVIEWS = [
    (1, 5, "Fast, and quiet enough not to wake anybody."),
    (1, 2, "The lid broke off after a month."),
    (2, 4, "Bright. The battery could last longer."),
    (3, 5, "Three days of storm in Scotland and we stayed dry."),
    (3, 3, "Good tent, but it takes two to put it up."),
    (4, 5, "My eyes no longer hurt in the evening."),
    (5, 1, "Water came through the seams on the first hike."),
    (6, 5, "I have not heard my colleagues for weeks. Wonderful."),
    (7, 4, "Heavy, but nothing browns meat like it."),
    (8, 5, "Saved my ride home twice."),
    (9, 2, "It smelled of rubber until summer."),
    (10, 4, "Good exercise before the first cup."),
]


def seed(database: Path) -> None:
    """Fill the database, unless it is there. Runs that start at once fill it once."""
    database.parent.mkdir(parents=True, exist_ok=True)
    opened = datetime(2024, 1, 5, 9)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("BEGIN EXCLUSIVE")
        if connection.execute("SELECT name FROM sqlite_master").fetchone():
            return
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO products (name, price, description) VALUES (?, ?, ?)", _PRODUCTS
        )
        connection.executemany(
            "INSERT INTO reviews (product_id, stars, text, created_at) VALUES (?, ?, ?, ?)",
            [
                (*review, _timestamp(opened + timedelta(days=day)))
                for day, review in enumerate(_REVIEWS)
            ],
        )


def add_review(database: Path, product_id: int, stars: int, text: str) -> None:
    """Add what a customer wrote just now."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO reviews (product_id, stars, text, created_at) VALUES (?, ?, ?, ?)",
            (product_id, stars, text, _timestamp(datetime.now())),
        )


def _timestamp(moment: datetime) -> str:
    # SQLite compares moments as text, so all are written alike: with microseconds.
    return moment.isoformat(sep=" ", timespec="microseconds")
