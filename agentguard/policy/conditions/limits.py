"""
How large a condition, and the work of one evaluation, may become.

Every limit is a refusal: at compile a problem with its place, at run an
evaluation error. None of them changes an answer.
"""

from __future__ import annotations

SOURCE_CHARS_MAX = 8_192
"""Characters in the source of one condition."""

NESTING_MAX = 48
"""Depth of brackets, and height of the tree: `a + b + c` is three high."""

NODES_MAX = 4_000
"""Nodes in the tree of one condition, its constants included."""

LITERAL_CHARS_MAX = 4_096
"""Characters of one string, or bytes of one bytes literal."""

LITERAL_ITEMS_MAX = 1_000
"""Items of one list or map literal, or constant."""

PROBLEMS_MAX = 20
"""Problems reported of one source; reading goes no further."""

ITERATIONS_MAX = 10_000
"""Items that all macros of one evaluation may look at together."""

ITEMS_MAX = 100_000
"""Items of a list that is put together with `+`, or searched."""

TEXT_CHARS_MAX = 1_000_000
"""Characters of a text that is put together with `+`, or matched."""

COMPARED_MAX = 100_000
"""Values that one comparison of lists and maps may look at."""

DEPTH_MAX = 64
"""Depth of lists and maps that a comparison goes into."""

PATTERN_CHARS_MAX = 1_000
"""Characters of one pattern of `matches` or `glob`."""

PATTERN_REPEAT_MAX = 1_000
"""The largest count in `x{n,m}`; RE2 has the same limit."""

PATTERN_STATES_MAX = 2_000
"""States of the automaton of one pattern, counts written out."""

PATTERN_CACHE_MAX = 200_000
"""Weight of the remembered steps of one automaton, 20 a step and 1 a state in it: about 8 MB.
A full memory is emptied, the answer is the same."""

PATTERN_WORK_MAX = 300_000
"""States that one search may look at for the first time; remembered steps are free."""
