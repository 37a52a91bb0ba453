"""Telling somebody that content is about to be read, before any of it comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from agentguard.values import USER_ATTRIBUTES, Attributes, SpanRecord, is_content

OnContentRead: TypeAlias = Callable[[str], object]
"""Is told what was asked for, without content; where it raises, nothing comes out."""
_T = TypeVar("_T")


def has_content(span: SpanRecord) -> bool:
    """Whether a span holds content that can be read, or names a user."""
    return (
        _is_any(span.attributes)
        or any(_is_any(event.attributes) for event in span.events)
        or any(_is_any(link.attributes) for link in span.links)
    )


def _is_any(attributes: Attributes) -> bool:
    return any(is_content(name) or name in USER_ATTRIBUTES for name in attributes)


def tell_before_content(
    spans: Iterable[_T], tell: Callable[[], object], holds_content: Callable[[_T], bool]
) -> Iterator[_T]:
    """
    Hand on spans; somebody is told, once, before the first one with content comes out.

    Told at the end, a reader who stops half-way, or whose process dies, would have read and
    nobody would know; so it is said that reading begins, and not how much was read.

    Args:
        spans:
            Or what holds one each.

        tell:
            Where it raises, no content comes out.

        holds_content:
            Whether that is so of one of them.
    """
    rest = iter(spans)
    for span in rest:
        if holds_content(span):
            tell()
            yield span
            break
        yield span
    yield from rest
