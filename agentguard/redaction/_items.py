"""
Streams of items whose texts run on from one item to the next.

An item is a text, or the chunk of an SDK, or any structure: fields such as
`content`, `text`, `delta` or `arguments` are pieces of running texts, told apart
by where they stand and by the `index` beside them. All other texts of an item
are looked at by themselves. Items leave in the order in which they came, each
as soon as nothing that follows can make a part of it part of a finding.

Source: the streaming events of OpenAI (chat completions, responses), Anthropic
(messages), Google (generate content) and LangChain (message chunks).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from agentguard.redaction._running import RunningText
from agentguard.redaction._streamed import Pieces, Seen
from agentguard.redaction._text import DETECTORS, OWN
from agentguard.redaction._walk import UNSEARCHED, Bounds, Walk, fields_of

HELD_CHARS_MAX: Final = 65_536
"""Characters without a border that a stream may hold back."""
HELD_ITEMS_MAX: Final = 16_384
"""Items that a stream may hold back."""
TEXTS_MAX: Final = 1_024
"""Running texts of one stream, such as answers and calls of tools."""

_RUNNING: Final = frozenset(
    {
        "arguments", "chunk", "content", "delta", "input", "output_text", "partial_json", "reasoning",
        "reasoning_content", "refusal", "text", "thinking", "token", "transcript",
    }
)  # fmt: skip
"""Fields of chunks that hold a piece of a text."""
_PLACES: Final = ("index", "output_index", "content_index", "summary_index", "item_id")
"""Fields that tell the texts of one stream apart."""
_WHOLE: Final = (
    ".done",
    ".completed",
    ".incomplete",
    ".failed",
    ".added",
    ".created",
    ".in_progress",
    "_start",
    "_stop",
)
"""How events are called that carry no piece of a text, or all of it once more."""
_NUMBER: Final = re.compile(r"\[[0-9]+\]")
_LAST_NAME: Final = re.compile(r"(?:^|\.)(\w+)$")
_PLAIN: Final = (str, bytes, int, float, type(None))

Key = tuple[Hashable, ...]


class _Slot(NamedTuple):
    """A piece of a running text in an item."""

    running: RunningText
    start: int
    text: str


class _Waiting(NamedTuple):
    """An item that waits to be released."""

    item: Any
    """As it came, but for texts that stand by themselves."""
    slots: tuple[_Slot, ...]

    @property
    def is_settled(self) -> bool:
        """Whether nothing that follows can change it."""
        return all(slot.start + len(slot.text) <= slot.running.settled for slot in self.slots)


class _Reader(Walk):
    """Finds the pieces in one item, and looks at its other texts."""

    def __init__(self, stream: StreamScanner) -> None:
        super().__init__(stream.kinds, stream.bounds, opaque=stream.opaque)
        self.stream = stream
        self.slots: list[_Slot] = []
        self.ended: list[Key] = []
        """Texts that this item says are over, by the beginning of their key."""
        self._scope: list[tuple[str, Key]] = []
        self._is_whole = False

    def visit(self, value: Any, path: str, depth: int, *, is_secret: bool = False) -> Any:
        """Note where a container says it belongs, and go on."""
        if isinstance(value, _PLAIN):
            return super().visit(value, path, depth, is_secret=is_secret)
        places = tuple(
            (name, found) for name in _PLACES if isinstance(found := _field(value, name), (int, str))
        )
        kind = _field(value, "type") if depth == 0 else None
        if isinstance(kind, str):
            self._is_whole = kind.endswith(_WHOLE)
            if self._is_whole:
                self.ended.append(places)
            else:
                places = (*places, ("type", str.__str__(kind)))
        if not places:
            return super().visit(value, path, depth, is_secret=is_secret)
        self._scope.append((path, places))
        try:
            if _field(value, "finish_reason"):
                self.ended.append(self._key(path))
            return super().visit(value, path, depth, is_secret=is_secret)
        finally:
            self._scope.pop()

    def _key(self, path: str) -> Key:
        """Name the running text of a place: its path, with what the containers say instead of numbers."""
        key: list[Hashable] = []
        position = 0
        for where, places in self._scope:
            key += (_NUMBER.sub("", path[position : len(where)]), *places)
            position = len(where)
        rest = path[position:]
        return (*key, rest) if rest else tuple(key)

    def text(self, text: str, path: str, *, is_secret: bool) -> Any:
        """Take a piece of a running text, or look at a text that stands by itself."""
        name = _LAST_NAME.search(path)
        is_piece = not path or (name is not None and name.group(1) in _RUNNING)
        if is_secret or self._is_whole or not is_piece:
            if path.endswith("snapshot") and self.stream.replaced:
                # It says again what was taken out of the pieces, perhaps in part.
                return self.whole(UNSEARCHED, path, len(text))
            return super().text(text, path, is_secret=is_secret)
        running = self.stream.running(self._key(path))
        if running is None:
            return self.whole(UNSEARCHED, path, len(text))
        plain = str.__str__(text)
        self.slots.append(_Slot(running, running.length, plain))
        running.feed(plain)
        return text


class _Writer(Walk):
    """Puts rewritten pieces back, in the order in which a reader found them."""

    def __init__(self, slots: Sequence[_Slot]) -> None:
        super().__init__((), Bounds(), opaque="keep")
        self._left = deque(slots)

    def text(self, text: str, path: str, *, is_secret: bool) -> Any:  # noqa: ARG002 - the walk's signature
        """Replace the next piece, if this is it."""
        if not self._left or self._left[0].text != text:
            return text
        slot = self._left.popleft()
        rewritten = slot.running.rewritten(slot.text, slot.start)
        if rewritten == text:
            return text
        self.count += 1
        return rewritten


class StreamScanner:
    """
    Looks at the items of one stream while they go by.

    For any way to cut a text into pieces, what is found is what is found in the
    whole text, and what is released and held together is the text, without
    what was to be replaced. No part of a finding is released before it is known
    to be one. Memory is bounded; a stream beyond the bounds is `is_beyond`.

    Args:
        kinds:
            What is looked for; names of `redaction.KINDS`.
        redacts:
            What of it is replaced.
        bounds:
            Of each item.
        opaque:
            As for `redaction.redact`.
        holds_all:
            Release nothing before `close`: the caller has all items anyway.

    Example:
        >>> stream = StreamScanner(["card"], ["card"])
        >>> [stream.feed(piece) for piece in ("pay 4111 11", "11 1111 11", "11 now")]
        [[], [], ['pay [REDACTED:card]', '']]
        >>> stream.close()
        [' now']
        >>> sorted(stream.found)
        ['card']

    """

    def __init__(
        self,
        kinds: Sequence[str],
        redacts: Sequence[str] = (),
        *,
        bounds: Bounds | None = None,
        opaque: Literal["keep", "refuse"] = "keep",
        holds_all: bool = False,
    ) -> None:
        self.kinds = tuple(kind for kind in DETECTORS if kind in kinds or kind in redacts)
        self.redacts = tuple(kind for kind in DETECTORS if kind in redacts)
        self.bounds = bounds or Bounds()
        self.opaque: Literal["keep", "refuse"] = opaque
        # Where a name ends is known when the text has ended: a language model reads all of it.
        holds_all = holds_all or not OWN.issuperset(self.kinds)
        self.found: frozenset[str] = frozenset()
        """Kinds found so far; `unsearched` where something lay beyond a bound."""
        self._chars_max = self.bounds.chars_max if holds_all else HELD_CHARS_MAX
        self._items_max = self.bounds.values_max if holds_all else HELD_ITEMS_MAX
        self._holds_all = holds_all
        self._texts: dict[Key, RunningText] = {}
        self._waiting: deque[_Waiting] = deque()
        self._by_themselves = 0

    @property
    def is_beyond(self) -> bool:
        """Whether the stream holds more than the bounds allow: it cannot be judged, and gives no more items."""
        return UNSEARCHED in self.found

    @property
    def replaced(self) -> int:
        """Findings replaced so far."""
        return self._by_themselves + sum(running.replaced for running in self._texts.values())

    def running(self, key: Key) -> RunningText | None:
        """Give the running text of a key; None where there are too many."""
        running = self._texts.get(key)
        if running is None and len(self._texts) < TEXTS_MAX:
            running = RunningText(
                self.kinds, self.redacts, held_chars_max=self._chars_max, looks_late=self._holds_all
            )
            self._texts[key] = running
        return running

    def feed(self, item: Any) -> list[Any]:
        """
        Take the next item.

        Args:
            item:
                Of the stream. It is not changed.

        Returns:
            Items that may be shown now: those without a finding themselves,
            the others as copies. `found` is up to date before they are shown.

        Raises:
            TypeError: *opaque* is `refuse`, and there is an object that is no plain data.
        """
        if self.is_beyond:
            return []
        reader = _Reader(self)
        looked = reader.visit(item, "", 0)
        if reader.count:
            found = {detection.kind for detection in reader.detections}
            self.found |= found
            if found.isdisjoint(self.redacts):
                looked = item
            else:
                self._by_themselves += reader.count
        self._waiting.append(_Waiting(looked, tuple(reader.slots)))
        for beginning in reader.ended:
            self._end(beginning)
        for slot in reader.slots:
            self.found |= slot.running.kinds
            if slot.running.is_beyond:
                self.found |= {UNSEARCHED}
        if len(self._waiting) > self._items_max:
            self.found |= {UNSEARCHED}
        return list(self._released())

    def close(self) -> list[Any]:
        """
        Say that no more items come.

        Returns:
            The items that were held.
        """
        for running in self._texts.values():
            running.end()
            self.found |= running.kinds
        self._holds_all = False
        return list(self._released())

    def _end(self, beginning: Key) -> None:
        """Settle the texts that are over."""
        for key, running in self._texts.items():
            if key[: len(beginning)] == beginning or set(beginning) <= set(key[: 1 + len(_PLACES)]):
                running.end()
                self.found |= running.kinds

    def _released(self) -> Iterator[Any]:
        """Take out the items that are settled, in order."""
        if self.is_beyond:
            self._waiting.clear()
            return
        if self._holds_all:
            return
        while self._waiting and self._waiting[0].is_settled:
            item, slots = self._waiting.popleft()
            if not any(slot.running.replaced for slot in slots):
                yield item
                continue
            yield _Writer(slots).visit(item, "", 0)
            for running, start, _ in slots:
                running.forget(start)


def _field(value: Any, name: str) -> Any:
    """Read a field of a chunk, whatever holds it, without running code of its own where that can be."""
    if isinstance(value, Mapping):
        return value.get(name)
    return fields_of(value).get(name)


class PieceWalk(Walk):
    """A walk that looks at the items of a stream together, and takes the word of who has looked already."""

    def visit(self, value: Any, path: str, depth: int, *, is_secret: bool = False) -> Any:
        """Look at a value."""
        if isinstance(value, Pieces):
            return self._pieces(value, path)
        if isinstance(value, Seen):
            for kind in (*self.kinds, UNSEARCHED):
                if kind in value.kinds:
                    self.note(kind, path)
            self.count += value.replaced
            return value
        return super().visit(value, path, depth, is_secret=is_secret)

    def _pieces(self, pieces: Pieces, path: str) -> Any:
        """Look at the items of a stream: at each by itself and at their texts together."""
        stream = StreamScanner(self.kinds, self.kinds, bounds=self.bounds, opaque=self.opaque, holds_all=True)
        for item in pieces:
            stream.feed(item)
        items = stream.close()
        for kind in (*self.kinds, UNSEARCHED):
            if kind in stream.found:
                self.note(kind, path)
        if stream.is_beyond:
            return self.whole(UNSEARCHED, path)
        self.count += stream.replaced
        return Pieces(items) if stream.replaced else pieces
