"""What loads claim, so that those at the same time do not spoil each other's work.

A replace removes the rows that it did not bring, a merge the nested rows that their root no longer
has. Neither could tell the rows of another load under way from former ones, so each has its tables
for itself, or its partition of them, and other loads of these wait. Loads that append, or merge
rows without nested ones, go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dagster_qdrant.destination.tables.table_plan import TablePlan


@dataclass(frozen=True)
class Claim:
    """What one load claims.

    Args:
        name: A table that is no nested one, or anything else that loads may share.
        part: The part of it that is claimed; None: all.
        exclusive: Whether no other load may claim it at the same time.
        ticket: The claim's place in the queue; 0 until it is known.
    """

    name: str
    part: str | None = None
    exclusive: bool = True
    ticket: int = 0

    @classmethod
    def of(cls, chain: Sequence[TablePlan], *, is_made_anew: bool) -> Claim:
        """The claim of a load to a table and those nested in it.

        Args:
            chain: Their plans, that of the table first.
            is_made_anew: Whether the load builds another collection for one of them.
        """
        root = chain[0].table_name
        parts = {plan.partition for plan in chain if plan.is_exclusive}
        if is_made_anew or len(parts) > 1:
            return cls(root)
        return cls(root, next(iter(parts), None), exclusive=bool(parts))

    @classmethod
    def read(cls, payload: Iterable[Mapping[str, Any]]) -> tuple[Claim, ...]:
        """Claims as a payload holds them."""
        return tuple(cls(**fields) for fields in payload)

    def to_payload(self) -> dict[str, Any]:
        """The claim as a payload can hold it."""
        return asdict(self)

    def conflicts_with(self, other: Claim) -> bool:
        """Whether only one of two loads may go on."""
        return (
            self.name == other.name
            and (self.exclusive or other.exclusive)
            and (self.part == other.part or None in (self.part, other.part))
        )


def in_line(claims: Sequence[Claim], others: Sequence[Claim]) -> tuple[Claim, ...]:
    """Claims with a ticket behind all others, if they conflict with any.

    This is Lamport's bakery algorithm. It needs no more of a store than that what was written is
    seen by who reads later: a load writes its claims down without tickets, looks at those of the
    others, and takes a ticket greater than all that it sees. A claim without a ticket comes first:
    its load is still looking, or saw no other when it looked.

    Args:
        claims: The claims of a load, written down already.
        others: Those of all other loads under way.
    """
    if not any(claim.conflicts_with(other) for claim in claims for other in others):
        return tuple(claims)
    ticket = 1 + max(other.ticket for other in others)
    return tuple(replace(claim, ticket=ticket) for claim in claims)


def is_behind(
    claims: Sequence[Claim], load_id: str, others: Sequence[Claim], other_load_id: str
) -> bool:
    """Whether a load, whose claims have tickets, has to wait for another one."""
    return any(
        claim.conflicts_with(other) and (other.ticket, other_load_id) < (claim.ticket, load_id)
        for claim in claims
        for other in others
    )
