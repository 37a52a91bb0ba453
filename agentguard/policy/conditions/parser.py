"""
From tokens to the tree of the source: CEL's grammar, by precedence.

A mistake is noted with its place. Inside brackets and between `&&` and `||`
reading goes on behind it, so that one look shows several mistakes.

Source: google/cel-spec, doc/langdef.md, Syntax.
"""

from __future__ import annotations

from agentguard.policy.conditions import syntax
from agentguard.policy.conditions.lexer import KEYWORDS, RESERVED, Token, tokens
from agentguard.policy.conditions.limits import (
    LITERAL_ITEMS_MAX,
    NESTING_MAX,
    NODES_MAX,
    SOURCE_CHARS_MAX,
)
from agentguard.policy.conditions.problems import Problems

_RELATIONS = frozenset(("==", "!=", "<", "<=", ">", ">=", "in"))
_BINARY = ({"+", "-"}, {"*", "/", "%"})
_INT_MAX = (1 << 63) - 1
_LITERALS = {"true": True, "false": False, "null": None}
_ELSEWHERE = {
    "and": "CEL writes `&&`",
    "or": "CEL writes `||`",
    "not": "CEL writes `!`",
    "is": "CEL writes `==`",
    "matches": "CEL writes `text.matches('pattern')`",
    "contains": "CEL writes `text.contains('part')`",
}


class _Stop(Exception):  # noqa: N818 - control flow inside the parser
    """A part cannot be read; its problem is noted."""


def parse(source: str, problems: Problems) -> syntax.Node | None:
    """
    Read a source.

    Args:
        source:
            The condition.

        problems:
            Takes what is no CEL, or larger than the limits.

    Returns:
        The tree, with `Broken` parts where there were problems; None where
        nothing could be read.
    """
    if len(source) > SOURCE_CHARS_MAX:
        problems.add(
            0, f"a condition of {len(source)} characters, at most {SOURCE_CHARS_MAX} fit", code="too-large"
        )
        return None
    words = tokens(source, problems)
    if len(words) == 1:
        if not problems.found:
            problems.add(0, "the condition is empty", code="syntax", hint="write `true` for always")
        return None
    return _Parser(words, problems).whole()


class _Parser:
    def __init__(self, words: list[Token], problems: Problems) -> None:
        self._words = words
        self._problems = problems
        self._at = 0
        self._depth = 0
        self._nodes = 0
        self._heights: dict[int, int] = {}

    # The tokens

    @property
    def _word(self) -> Token:
        return self._words[self._at]

    def _is(self, *operators: str) -> bool:
        word = self._word
        return word.kind == "op" and word.value in operators

    def _is_name(self, name: str) -> bool:
        return self._word.kind == "name" and self._word.value == name

    def _take(self) -> Token:
        word = self._word
        if word.kind != "end":
            self._at += 1
        return word

    def _expect(self, operator: str, opening: Token | None = None) -> Token:
        if self._is(operator):
            return self._take()
        shown = _shown(self._word)
        hint = ""
        if opening is not None and self._word.kind == "end":
            self._fail(opening.start, f"`{opening.value}` is not closed, expected `{operator}`", hint)
        if self._word.kind == "name":
            hint = _ELSEWHERE.get(str(self._word.value), "")
        self._fail(self._word.start, f"{shown}, expected `{operator}`", hint)
        raise AssertionError  # _fail always raises

    def _fail(self, offset: int, text: str, hint: str = "", code: str = "syntax") -> None:
        self._problems.add(offset, text, code=code, hint=hint)
        raise _Stop

    # Limits

    def _made(self, node: syntax.Node, *below: syntax.Node) -> syntax.Node:
        """Count a node and its height, since chains such as `a.b.c` nest without brackets."""
        self._nodes += 1
        height = 1 + max((self._heights.get(id(child), 0) for child in below), default=0)
        if height > NESTING_MAX:
            self._fail(node.at, f"nested deeper than {NESTING_MAX}", code="too-large")
        if self._nodes > NODES_MAX:
            self._fail(node.at, f"more than {NODES_MAX} parts", code="too-large")
        self._heights[id(node)] = height
        return node

    # The grammar

    def whole(self) -> syntax.Node | None:
        try:
            node = self._expression()
        except _Stop:
            return None
        if self._word.kind != "end":
            word = self._word
            hint = _ELSEWHERE.get(str(word.value), "") if word.kind == "name" else ""
            self._problems.add(
                word.start, f"{_shown(word)}, expected an operator or the end", code="syntax", hint=hint
            )
        return node

    def _expression(self) -> syntax.Node:
        if self._depth >= NESTING_MAX:
            self._fail(self._word.start, f"nested deeper than {NESTING_MAX}", code="too-large")
        self._depth += 1
        try:
            test = self._logic("||")
            if not self._is("?"):
                return test
            mark = self._take()
            yes = self._logic("||")
            if self._is("?"):
                self._fail(self._word.start, "a second `?` before `:`", "put the inner choice in brackets")
            self._expect(":")
            no = self._expression()
            return self._made(
                syntax.Conditional(mark.start, test.start, no.end, test, yes, no), test, yes, no
            )
        finally:
            self._depth -= 1

    def _logic(self, operator: str) -> syntax.Node:
        """`||` over `&&` over comparisons; a term that is broken does not hide the next one."""
        terms = [self._term(operator)]
        first: Token | None = None
        while self._is(operator):
            first = first or self._word
            self._take()
            terms.append(self._term(operator))
        if first is None:
            return terms[0]
        node = syntax.Logic(first.start, terms[0].start, terms[-1].end, operator, tuple(terms))
        return self._made(node, *terms)

    def _term(self, operator: str) -> syntax.Node:
        start = self._word.start
        try:
            return self._logic("&&") if operator == "||" else self._relation()
        except _Stop:
            self._skip({"&&", "||", ",", ":"})
            if self._word.kind == "end" and self._depth > 1:
                raise  # brackets are open, and one problem says enough
            return syntax.Broken(start, start, self._word.start)

    def _skip(self, stops: set[str]) -> None:
        """Go on to the next stop on this level of brackets, or to what closes the level."""
        depth = 0
        while self._word.kind != "end":
            if self._is("(", "[", "{"):
                depth += 1
            elif self._is(")", "]", "}"):
                if depth == 0:
                    return
                depth -= 1
            elif depth == 0 and self._word.kind == "op" and self._word.value in stops:
                return
            self._take()

    def _relation(self) -> syntax.Node:
        left = self._arithmetic(0)
        while (self._word.kind == "op" and self._word.value in _RELATIONS) or self._is_name("in"):
            word = self._take()
            right = self._arithmetic(0)
            left = self._made(
                syntax.Binary(word.start, left.start, right.end, str(word.value), left, right), left, right
            )
        return left

    def _arithmetic(self, level: int) -> syntax.Node:
        if level == len(_BINARY):
            return self._unary()
        left = self._arithmetic(level + 1)
        while self._word.kind == "op" and self._word.value in _BINARY[level]:
            word = self._take()
            right = self._arithmetic(level + 1)
            left = self._made(
                syntax.Binary(word.start, left.start, right.end, str(word.value), left, right), left, right
            )
        return left

    def _unary(self) -> syntax.Node:
        if not self._is("!", "-"):
            return self._member()
        marks: list[Token] = []
        while self._is("!", "-"):
            if marks and self._word.value != marks[0].value:
                self._fail(
                    self._word.start, f"`{marks[0].value}` before `{self._word.value}`", "use brackets"
                )
            marks.append(self._take())
            if len(marks) > NESTING_MAX:
                self._fail(marks[0].start, f"nested deeper than {NESTING_MAX}", code="too-large")
        is_number = self._word.kind in ("int", "double") and marks[-1].value == "-"
        if is_number:
            # CEL reads a minus into the number: only so does -2^63 exist.
            mark, word = marks.pop(), self._take()
            value = -word.value  # type: ignore[operator] # the kind says that it is a number
            node = self._member(self._literal(mark.start, word.end, value))
        else:
            node = self._member()
        for mark in reversed(marks):
            node = self._made(syntax.Unary(mark.start, mark.start, node.end, str(mark.value), node), node)
        return node

    def _literal(self, start: int, end: int, value: object) -> syntax.Node:
        if type(value) is int and not -_INT_MAX - 1 <= value <= _INT_MAX:
            self._problems.add(start, "an integer larger than 64 bits", code="literal-range")
            value = 0
        return self._made(syntax.Literal(start, start, end, value))

    def _member(self, node: syntax.Node | None = None) -> syntax.Node:
        node = node or self._primary()
        while True:
            if self._is("."):
                dot = self._take()
                if self._is("?"):
                    self._fail(
                        dot.start,
                        "`.?` is not part of conditions",
                        "ask with `has(...)` first",
                        "unsupported",
                    )
                word = self._word
                if word.kind != "name" or word.value in KEYWORDS:
                    self._fail(word.start, f"{_shown(word)} after `.`, expected a name")
                self._take()
                if self._is("("):
                    args, end = self._arguments()
                    node = self._made(
                        syntax.Call(word.start, node.start, end, str(word.value), node, args), node, *args
                    )
                else:
                    node = self._made(
                        syntax.Select(word.start, node.start, word.end, node, str(word.value)), node
                    )
            elif self._is("["):
                opening = self._take()
                if self._is("?"):
                    self._fail(self._word.start, "`[?` is not part of conditions", code="unsupported")
                key = self._guarded("]")
                closing = self._expect("]", opening)
                node = self._made(syntax.Index(opening.start, node.start, closing.end, node, key), node, key)
            elif self._is("{"):
                self._fail(self._word.start, "messages are not part of conditions", code="unsupported")
            else:
                return node

    def _guarded(self, *stops: str) -> syntax.Node:
        """One expression inside brackets; a broken one does not hide what follows the comma."""
        start = self._word.start
        try:
            return self._expression()
        except _Stop:
            self._skip({",", ":"} | set(stops))
            if self._word.kind == "end":
                raise
            return syntax.Broken(start, start, self._word.start)

    def _arguments(self) -> tuple[tuple[syntax.Node, ...], int]:
        opening = self._take()
        args: list[syntax.Node] = []
        if not self._is(")"):
            args.append(self._guarded())
            while self._is(","):
                self._take()
                args.append(self._guarded())
        return tuple(args), self._expect(")", opening).end

    def _primary(self) -> syntax.Node:
        word = self._word
        if word.kind in ("int", "double", "string", "bytes"):
            self._take()
            return self._literal(word.start, word.end, word.value)
        if word.kind == "name":
            return self._word_of_name(word)
        if self._is("("):
            opening = self._take()
            node = self._guarded()
            self._expect(")", opening)
            return node
        if self._is("["):
            return self._list()
        if self._is("{"):
            return self._map()
        if self._is("."):
            self._fail(word.start, "a name with a leading dot is not part of conditions", code="unsupported")
        self._fail(word.start, f"{_shown(word)}, expected a value")
        raise AssertionError  # _fail always raises

    def _word_of_name(self, word: Token) -> syntax.Node:
        name = str(word.value)
        if name in _LITERALS:
            self._take()
            return self._literal(word.start, word.end, _LITERALS[name])
        if name == "in":
            self._fail(word.start, "`in` where a value is expected")
        if name in RESERVED:
            self._fail(word.start, f"`{name}` is a word that CEL reserves", code="reserved")
        if name in ("True", "False", "None", "nil", "TRUE", "FALSE", "NULL"):
            meant = {"true": "true", "false": "false"}.get(name.lower(), "null")
            self._fail(word.start, f"`{name}` is no value", f"CEL writes `{meant}`")
        self._take()
        if self._is("("):
            args, end = self._arguments()
            return self._made(syntax.Call(word.start, word.start, end, name, None, args), *args)
        if self._word.kind in ("name", "string", "int", "double") and name == "not":
            self._fail(word.start, "`not` is no operator", _ELSEWHERE[name])
        return self._made(syntax.Name(word.start, word.start, word.end, name))

    def _list(self) -> syntax.Node:
        opening = self._take()
        items: list[syntax.Node] = []
        while not self._is("]"):
            self._refuse_optional()
            if items or not self._is(","):
                items.append(self._guarded("]"))
            if not self._is(","):
                break
            self._take()
        closing = self._expect("]", opening)
        self._bounded(opening, len(items))
        return self._made(syntax.ListNode(opening.start, opening.start, closing.end, tuple(items)), *items)

    def _map(self) -> syntax.Node:
        opening = self._take()
        entries: list[tuple[syntax.Node, syntax.Node]] = []
        while not self._is("}"):
            self._refuse_optional()
            if entries or not self._is(","):
                key = self._guarded("}")
                self._expect(":")
                entries.append((key, self._guarded("}")))
            if not self._is(","):
                break
            self._take()
        closing = self._expect("}", opening)
        self._bounded(opening, len(entries))
        below = [node for entry in entries for node in entry]
        return self._made(syntax.MapNode(opening.start, opening.start, closing.end, tuple(entries)), *below)

    def _refuse_optional(self) -> None:
        if self._is("?"):
            self._fail(self._word.start, "optional items are not part of conditions", code="unsupported")

    def _bounded(self, opening: Token, count: int) -> None:
        if count > LITERAL_ITEMS_MAX:
            self._problems.add(
                opening.start, f"{count} items, at most {LITERAL_ITEMS_MAX} fit", code="too-large"
            )


def _shown(word: Token) -> str:
    """A token as a message names it."""
    if word.kind == "end":
        return "the condition ends"
    if word.kind in ("string", "bytes"):
        return f"a {'text' if word.kind == 'string' else 'bytes literal'}"
    return f"`{str(word.value)[:40]}`"
