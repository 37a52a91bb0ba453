"""Telling somebody that content is about to be read, before any of it comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from agentguard.values import USER_ATTRIBUTES, SpanColumns, SpanEvent, SpanLink, SpanRecord, is_content

OnContentRead: TypeAlias = Callable[[str], object]
"""Is told what was asked for, without content; where it raises, nothing comes out."""
_T = TypeVar("_T")


def has_content(span: SpanRecord | SpanColumns) -> bool:
    """Whether a span, or any of many, holds content that can be read, or names a user."""
    names: Iterable[Iterable[str]] = (
        [span.attributes] if isinstance(span, SpanRecord) else [found for found, _ in span.groups]
    )
    items: Iterable[Iterable[SpanEvent | SpanLink]] = (
        [span.events, span.links] if isinstance(span, SpanRecord) else [*span.events, *span.links]
    )
    return any(map(_is_any, names)) or any(_is_any(item.attributes) for some in items for item in some)


def _is_any(attributes: Iterable[str]) -> bool:
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
