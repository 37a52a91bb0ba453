"""Two stretches of time of a store, compared once: the check for the first day."""

from __future__ import annotations

from agentguard.drift._alike import alike_reference, with_spread_of_days
from agentguard.drift._comparison import Comparison
from agentguard.drift._profile import Profile, compare_profiles, read_profile
from agentguard.drift._reference import Reference
from agentguard.drift._source import FeatureStore
from agentguard.drift._typed import Floors
from agentguard.errors import BaselineTooSmallError, DriftInputError


def check(
    store: FeatureStore,
    *,
    reference: Reference | tuple[int, int],
    window: tuple[int, int],
    agent: str = "",
    alpha: float = 0.05,
    floors: Floors | None = None,
) -> Comparison:
    """
    Compare two stretches of time of a store: the check for the first day.

    Latency, tokens, retries and errors are compared for each kind of call, and beside them models,
    tools, finish reasons, error types, missing usage and the shape of the recorded attributes. Of a stored
    reference the same time of each day is taken; how much such windows differ from day to day is read off the days
    before, where the store has five. Two times that were given are compared as they are: compare like with like.

    Args:
        store:
            Where the feature blocks are.
        reference:
            A fitted reference, or (since, until) in nanoseconds since 1970-01-01 UTC.
        window:
            (since, until) of the current window, in the same unit.
        agent:
            Only calls of this agent; empty for all.
        alpha:
            Chance of a false alarm, all features together.
        floors:
            The smallest changes worth an alarm.

    Raises:
        BaselineTooSmallError: There are no calls in the reference.
        DriftInputError: An end is not after its beginning, or there are no calls in the window.
    """
    profiles: list[Profile] = []
    for what, span in (("reference", reference), ("window", window)):
        if isinstance(span, Reference):
            profiles.append(span.profile)
            continue
        if span[1] <= span[0]:
            raise DriftInputError(f"{what}: the end is not after the beginning")
        profiles.append(read_profile(store, since_unix_ns=span[0], until_unix_ns=span[1], agent=agent))
    if not profiles[0].n_calls:
        raise BaselineTooSmallError("reference: no call ended in that time, expected at least 5").hint(
            "look when there were any: agentguard stats"
        )
    if not profiles[1].n_calls:
        raise DriftInputError("window: no call ended in that time, expected at least 5")
    before = profiles[0]
    if isinstance(reference, Reference):
        before = alike_reference(store, before, window, agent=agent or reference.agent)
    before = with_spread_of_days(store, before, window, agent=agent)
    return compare_profiles(before, profiles[1], alpha=alpha, floors=floors)
