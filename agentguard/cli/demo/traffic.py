"""What customers ask, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

_REASONS = ("it broke", "it never came", "it is the wrong size", "I changed my mind")
_SMALL_TALK = (
    "What are your opening hours?",
    "Do you ship abroad?",
    "How do I return a parcel?",
)


def questions(count: int, draw: random.Random) -> Iterator[str]:
    """
    Make up the questions of some customers.

    Six in ten ask where an order is, three in ten want a small refund, one in
    ten only talks. No refund is above USD 90, so that nothing of it is denied.

    Args:
        count:
            How many.
        draw:
            Where the chances come from.

    Yields:
        One question a customer.
    """
    for _ in range(count):
        order = f"{draw.choice('ABCD')}-{draw.randrange(100, 9999)}"
        chance = draw.random()
        if chance < 0.6:
            yield f"Where is my order {order}?"
        elif chance < 0.9:
            yield f"Please refund USD {draw.randrange(5, 90)} for order {order}, {draw.choice(_REASONS)}."
        else:
            yield draw.choice(_SMALL_TALK)
