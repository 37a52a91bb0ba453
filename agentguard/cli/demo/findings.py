"""What a scene gives back, as plain values: the page prints them, `--format json` dumps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """One way to die, and what came of it."""

    title: str
    """The way, in two or three words."""
    story: str
    """What is done to the agent, one sentence."""
    without: str
    """What happened to the same agent without agentguard, with figures of this run."""
    with_guard: tuple[str, ...]
    """What agentguard did, with figures of this run; one sentence a line."""
    command: str
    """The command that shows it."""
    caught: bool
    """Whether all that the scene claims was measured to be so."""
    short: str
    """The same for the closing table, some 40 characters."""
    figures: Mapping[str, object] = field(default_factory=dict)
    """The numbers behind the words."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """Something shown beside the six: a control arm, a proof, a dry run."""

    title: str
    lines: tuple[str, ...]
    """Sentences, wrapped when printed."""
    verbatim: str = ""
    """Output of a command, printed as it is, escaped."""
    command: str = ""
    is_as_promised: bool = True
    """Whether it came out as the lines say."""
    figures: Mapping[str, object] = field(default_factory=dict)
