"""
Typed expressions and facts from one seed, for holding conditions against CEL.

Each expression comes in two spellings: ours, and the one for `cel-expr-python`,
whose checker refuses to compare an int with a double without `dyn()`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

SCHEMA: dict[str, str] = {
    "i": "int",
    "j": "int",
    "d": "double",
    "e": "double",
    "s": "string",
    "tool.name": "string",
    "b": "bool",
    "c": "bool",
    "y": "bytes",
    "ts": "timestamp",
    "ts2": "timestamp",
    "du": "duration",
    "li": "list<int>",
    "ls": "list<string>",
    "ld": "list<double>",
    "lm": "list<map<string, string>>",
    "m": "map<string, int>",
    "mi": "map<int, string>",
    "args": "map<string, dyn>",
    "dy": "dyn",
}
KEYS = ("a", "b", "k", "in_it", "zz")
_INTS = (0, 1, -1, 2, 3, 5, 7, 10, 100, 2**31, 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), -(2**53) - 1)
_DOUBLES = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.5,
    3.0,
    1e3,
    1e-3,
    1e15,
    1e300,
    -1e300,
    9007199254740992.0,
    0.1,
    1e6,
    123456.75,
)
_TEXTS = (
    "",
    "a",
    "b",
    "A",
    "ab",
    "abc",
    "sql",
    "é",
    "😀",
    "aé😀",
    " a ",
    "1",
    "-5",
    "1.5",
    "true",
    "x/y",
    "10h",
    "\n",
    "ß\u00a0",
)
_BYTES = (b"", b"a", b"ab", b"\xff", "é".encode())
_SPANS = ("0s", "1s", "90s", "1h", "-1h30m", "1.5s", "250ms", "24h", "1us", "-2ms")
_MOMENTS = (
    "1970-01-01T00:00:00Z", "2024-02-29T23:59:59.5Z", "2026-03-01T12:00:00+01:00", "1969-12-31T23:59:59.999Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2025-10-26T01:30:00Z", "2000-12-31T00:00:00-08:00",
)  # fmt: skip
_ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "+05:30",
    "-08:00",
    "Australia/Lord_Howe",
)
_PATTERNS = (
    "a", "^a", "a$", "^$", "a|b", "[a-c]+", "(ab)*c", "\\\\d+", "\\\\w", "\\\\s", "^.{2,3}$", "(?i)AB", "\\\\bsql\\\\b", ".",
    "[^a]", "a?b", "x*", "(a|ab)(c|bcd)?", "[[:alpha:]]", "(?s).", "é", "\\\\.", "^(?:a|b)+?$",
)  # fmt: skip


class Pair(NamedTuple):
    """One expression in both spellings."""

    ours: str
    cel: str


def literal(value: object) -> str:
    """Write a plain value as CEL does."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    if isinstance(value, bytes):
        return "b'" + "".join(f"\\x{byte:02x}" for byte in value) + "'"
    assert isinstance(value, str)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


class Generator:
    """Makes expressions and facts; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.variables: list[tuple[str, str]] = []
        self._fresh = 0

    def facts(self) -> dict[str, Any]:
        """Values for every name of the schema."""
        r = self.random
        pick = r.choice
        return {
            "i": pick(_INTS),
            "j": pick((0, 1, 2, -1, 3, 2**63 - 1)),
            "d": pick(_DOUBLES),
            "e": pick(_DOUBLES),
            "s": pick(_TEXTS),
            "tool.name": pick(("sql", "shell", "mail")),
            "b": r.random() < 0.5,
            "c": r.random() < 0.5,
            "y": pick(_BYTES),
            "ts": self._moment(),
            "ts2": self._moment(),
            "du": timedelta(microseconds=r.randrange(-(10**13), 10**13)),
            "li": [pick(_INTS) for _ in range(r.randrange(4))],
            "ls": [pick(_TEXTS) for _ in range(r.randrange(4))],
            "ld": [pick(_DOUBLES) for _ in range(r.randrange(4))],
            "lm": [{pick(KEYS): pick(_TEXTS) for _ in range(2)} for _ in range(r.randrange(3))],
            "m": {pick(KEYS): pick(_INTS) for _ in range(r.randrange(4))},
            "mi": {pick((0, 1, 2, 5)): pick(_TEXTS) for _ in range(r.randrange(3))},
            "args": {key: self.plain(2) for key in KEYS if r.random() < 0.7},
            "dy": self.plain(2),
        }

    def _moment(self) -> datetime:
        r = self.random
        start = datetime(1900, 1, 1, tzinfo=UTC)
        return start + timedelta(
            seconds=r.randrange(0, 200 * 365 * 86400), milliseconds=r.choice((0, 0, 1, 500))
        )

    def plain(self, depth: int) -> Any:
        """A value of unknown type."""
        r = self.random
        kinds = ["int", "int", "double", "string", "string", "bool", "null"]
        if depth:
            kinds += ["list", "map", "bytes"]
        match r.choice(kinds):
            case "int":
                return r.choice(_INTS)
            case "double":
                return r.choice(_DOUBLES)
            case "string":
                return r.choice(_TEXTS)
            case "bool":
                return r.random() < 0.5
            case "null":
                return None
            case "bytes":
                return r.choice(_BYTES)
            case "list":
                return [self.plain(depth - 1) for _ in range(r.randrange(3))]
            case _:
                return {r.choice(KEYS): self.plain(depth - 1) for _ in range(r.randrange(3))}

    # Expressions

    def condition(self) -> Pair:
        """One expression of some type, mostly a bool."""
        self.variables = []
        kind = self.random.choice(
            ("bool",) * 12 + ("int", "double", "string", "dyn", "list<int>", "duration", "timestamp")
        )
        return self.make(kind, self.random.randrange(1, 5))

    def make(self, of: str, depth: int) -> Pair:
        """One expression of a type."""
        r = self.random
        if depth <= 0 or r.random() < 0.12:
            return self._leaf(of)
        options: dict[str, tuple[Callable[[int], Pair], ...]] = {
            "bool": (
                self._logic, self._logic, self._logic, self._compare, self._compare, self._compare, self._equal,
                self._equal, self._in, self._in, self._macro, self._macro, self._text_test, self._not, self._has,
            ),
            "int": (self._int_arithmetic, self._int_arithmetic, self._int_call, self._part, self._int_call),
            "double": (self._double_arithmetic, self._double_call),
            "string": (self._string_call, self._string_call, self._concat),
            "bytes": (self._bytes_call,),
            "timestamp": (self._moment_arithmetic,),
            "duration": (self._span_arithmetic,),
            "dyn": (self._dyn, self._dyn, self._dyn_arithmetic),
        }  # fmt: skip
        if of.startswith("list<"):
            return self._list(of, depth)
        if of.startswith("map<"):
            return self._map(of, depth)
        if r.random() < 0.06:
            return self._join(
                "({} ? {} : {})",
                self.make("bool", depth - 1),
                self.make(of, depth - 1),
                self.make(of, depth - 1),
            )
        chosen = options.get(of)
        return r.choice(chosen)(depth - 1) if chosen else self._leaf(of)

    def _join(self, form: str, *parts: Pair) -> Pair:
        return Pair(form.format(*(p.ours for p in parts)), form.format(*(p.cel for p in parts)))

    def _same(self, text: str) -> Pair:
        return Pair(text, text)

    def _leaf(self, of: str) -> Pair:
        r = self.random
        own = [name for name, kind in self.variables if kind == of]
        if own and r.random() < 0.7:
            return self._same(r.choice(own))
        names = [name for name, kind in SCHEMA.items() if kind == of]
        if names and r.random() < 0.6:
            return self._same(r.choice(names))
        match of:
            case "int":
                value = r.choice(_INTS)
                return self._same(f"0x{value:x}" if value > 0 and r.random() < 0.1 else literal(value))
            case "double":
                return self._same(literal(r.choice(_DOUBLES)))
            case "string":
                return self._same(literal(r.choice(_TEXTS)))
            case "bool":
                return self._same(literal(r.random() < 0.5))
            case "bytes":
                return self._same(literal(r.choice(_BYTES)))
            case "null":
                return self._same("null")
            case "timestamp":
                return self._same(f"timestamp('{r.choice(_MOMENTS)}')")
            case "duration":
                return self._same(f"duration('{r.choice(_SPANS)}')")
            case "dyn":
                if r.random() < 0.5:
                    key = r.choice(KEYS)
                    return self._same(f"args.{key}" if r.random() < 0.7 else f"args['{key}']")
                return self._join(
                    "dyn({})", self._leaf(r.choice(("int", "double", "string", "bool", "null")))
                )
        if of.startswith("list<"):
            inner = of[5:-1]
            return self._bracket([self._leaf(inner) for _ in range(r.randrange(1, 4))])
        inner_key, inner = of[4:-1].split(", ", 1)
        del inner_key
        return self._braces([(f"'{key}'", self._leaf(inner)) for key in r.sample(KEYS, r.randrange(1, 3))])

    def _bracket(self, items: list[Pair]) -> Pair:
        return Pair("[" + ", ".join(i.ours for i in items) + "]", "[" + ", ".join(i.cel for i in items) + "]")

    def _braces(self, entries: list[tuple[str, Pair]]) -> Pair:
        return Pair(
            "{" + ", ".join(f"{k}: {v.ours}" for k, v in entries) + "}",
            "{" + ", ".join(f"{k}: {v.cel}" for k, v in entries) + "}",
        )

    def _logic(self, depth: int) -> Pair:
        operator = self.random.choice((" && ", " || "))
        count = self.random.choice((2, 2, 3))
        parts = [self._operand(depth) for _ in range(count)]
        return self._join("(" + operator.join(["{}"] * count) + ")", *parts)

    def _operand(self, depth: int) -> Pair:
        return self.make("dyn" if self.random.random() < 0.06 else "bool", depth)

    def _not(self, depth: int) -> Pair:
        return self._join("!({})", self._operand(depth))

    def _has(self, depth: int) -> Pair:
        r = self.random
        form = r.choice(("has(args.{})", "has(m.{})", "has(dy.{})", "has(args.a.{})", "has(args['k'].{})"))
        return self._same(form.format(r.choice(KEYS)))

    def _compare(self, depth: int) -> Pair:
        r = self.random
        operator = r.choice(("<", "<=", ">", ">="))
        kind = r.choice(
            (
                "int",
                "int",
                "double",
                "string",
                "bytes",
                "bool",
                "timestamp",
                "duration",
                "mixed",
                "dyn",
                "dyn",
                "dyn",
            )
        )
        return self._relation(
            operator, kind, depth, ("int", "double", "string", "bool", "timestamp", "dyn", "int")
        )

    def _equal(self, depth: int) -> Pair:
        r = self.random
        operator = r.choice(("==", "!="))
        kind = r.choice(
            (
                "int",
                "double",
                "string",
                "bool",
                "mixed",
                "dyn",
                "dyn",
                "dyn",
                "list<int>",
                "list<string>",
                "map<string, int>",
                "timestamp",
            )
        )
        others = ("int", "double", "string", "bool", "null", "list<int>", "map<string, int>", "dyn", "string")
        return self._relation(operator, kind, depth, others)

    def _relation(self, operator: str, kind: str, depth: int, others: tuple[str, ...]) -> Pair:
        r = self.random
        if kind == "mixed":
            left, right = self.make("int", depth), self.make("double", depth)
            if r.random() < 0.5:
                left, right = right, left
            return Pair(
                f"({left.ours} {operator} {right.ours})", f"(dyn({left.cel}) {operator} dyn({right.cel}))"
            )
        if kind == "dyn":
            left, right = self.make("dyn", depth), self.make(r.choice(others), depth)
            if r.random() < 0.3:
                left, right = right, left
        else:
            left, right = self.make(kind, depth), self.make(kind, depth)
        return self._join(f"({{}} {operator} {{}})", left, right)

    def _in(self, depth: int) -> Pair:
        r = self.random
        match r.randrange(8):
            case 0 | 1:
                kind = r.choice(("int", "string", "double"))
                return self._join("({} in {})", self.make(kind, depth), self.make(f"list<{kind}>", depth))
            case 2:
                return self._join(
                    "({} in {})", self.make("string", depth), self.make("map<string, int>", depth)
                )
            case 3:
                return self._join(
                    "({} in {})",
                    self.make("dyn", depth),
                    self.make(r.choice(("list<int>", "list<string>", "list<double>")), depth),
                )
            case 4:
                return self._join(
                    "({} in {})",
                    self.make(r.choice(("int", "string", "dyn")), depth),
                    self.make("dyn", depth),
                )
            case 5:
                return self._join(
                    "({} in {})", self.make("dyn", depth), self._same(r.choice(("args", "m", "mi", "lm")))
                )
            case 6:
                return self._join("({} in mi)", self.make("int", depth))
            case _:
                items = self._bracket([self._leaf("string") for _ in range(3)])
                return self._join("({} in {})", self._leaf(r.choice(("string", "dyn"))), items)

    def _macro(self, depth: int) -> Pair:
        r = self.random
        source_kind = r.choice(
            (
                "list<int>",
                "list<int>",
                "list<string>",
                "list<double>",
                "dyn",
                "map<string, int>",
                "list<map<string, string>>",
            )
        )
        source = self.make(source_kind, depth - 1)
        if source_kind == "dyn":
            # The reference's checker sometimes loses that such a source is dyn.
            source = Pair(source.ours, f"dyn({source.cel})")
        kind = {
            "list<int>": "int", "list<string>": "string", "list<double>": "double", "dyn": "dyn",
            "map<string, int>": "string", "list<map<string, string>>": "map<string, string>",
        }[source_kind]  # fmt: skip
        self._fresh += 1
        name = f"x{self._fresh}"
        self.variables.append((name, kind))
        try:
            macro = r.choice(("exists", "all", "exists_one", "filter", "map"))
            if kind == "map<string, string>" and r.random() < 0.6:
                test = self._join(f"({name}.{r.choice(KEYS)} == {{}})", self._leaf("string"))
            else:
                test = self._operand(depth)
            if macro == "filter":
                return self._join(f"(size({{}}.filter({name}, {{}})) > {r.randrange(3)})", source, test)
            if macro == "map":
                result = self.make("int", depth - 1)
                return self._join(
                    f"({{}}.map({name}, {{}}) == {{}})", source, result, self.make("list<int>", depth - 1)
                )
            return self._join(f"{{}}.{macro}({name}, {{}})", source, test)
        finally:
            self.variables.pop()

    def _text_test(self, depth: int) -> Pair:
        r = self.random
        target = self.make(r.choice(("string", "string", "string", "dyn")), depth)
        if r.random() < 0.3:
            return self._join(f"{{}}.matches('{r.choice(_PATTERNS)}')".replace("{2,3}", "{{2,3}}"), target)
        name = r.choice(("startsWith", "endsWith", "contains"))
        return self._join(
            f"{{}}.{name}({{}})", target, self.make(r.choice(("string", "string", "dyn")), depth - 1)
        )

    def _int_arithmetic(self, depth: int) -> Pair:
        operator = self.random.choice("+-*/%")
        if self.random.random() < 0.1:
            return self._join("-({})", self.make("int", depth))
        return self._join(f"({{}} {operator} {{}})", self.make("int", depth), self.make("int", depth))

    def _double_arithmetic(self, depth: int) -> Pair:
        operator = self.random.choice("+-*/")
        if self.random.random() < 0.1:
            return self._join("-({})", self.make("double", depth))
        return self._join(f"({{}} {operator} {{}})", self.make("double", depth), self.make("double", depth))

    def _dyn_arithmetic(self, depth: int) -> Pair:
        r = self.random
        operator = r.choice("+-*/%")
        other = r.choice(("int", "double", "string", "dyn", "list<int>" if operator == "+" else "int"))
        if operator != "+" and other == "string":
            other = "int"
        if operator == "%" and other == "double":
            other = "int"
        left, right = self.make("dyn", depth), self.make(other, depth)
        if r.random() < 0.1:
            return self._join("dyn(-({}))", left)
        return self._join(f"dyn({{}} {operator} {{}})", left, right)

    def _int_call(self, depth: int) -> Pair:
        r = self.random
        kind = r.choice(("size", "size", "int", "index", "member"))
        if kind == "size":
            target = self.make(
                r.choice(("string", "list<int>", "list<string>", "map<string, int>", "bytes", "dyn")), depth
            )
            return self._join(r.choice(("size({})", "{}.size()")), target)
        if kind == "int":
            return self._join("int({})", self.make(r.choice(("double", "string", "int", "timestamp")), depth))
        if kind == "index":
            return self._join(
                "{}[{}]", self.make("list<int>", depth), self.make(r.choice(("int", "dyn")), depth - 1)
            )
        return self._same(f"m.{r.choice(KEYS)}" if r.random() < 0.5 else f"m['{r.choice(KEYS)}']")

    def _part(self, depth: int) -> Pair:
        r = self.random
        if r.random() < 0.35:
            name = r.choice(("getHours", "getMinutes", "getSeconds", "getMilliseconds"))
            return self._join(f"{{}}.{name}()", self.make("duration", depth))
        name = r.choice(
            (
                "getFullYear",
                "getMonth",
                "getDate",
                "getDayOfMonth",
                "getDayOfWeek",
                "getDayOfYear",
                "getHours",
                "getMinutes",
                "getSeconds",
                "getMilliseconds",
            )
        )
        zone = f"'{r.choice(_ZONES)}'" if r.random() < 0.5 else ""
        # Zone data before 1970 differs between time zone data bases; facts are the moments tested.
        target = self._same(r.choice(("ts", "ts2"))) if zone else self.make("timestamp", depth)
        return self._join(f"{{}}.{name}({zone})", target)

    def _double_call(self, depth: int) -> Pair:
        if self.random.random() < 0.4:
            return self._join("{}[{}]", self.make("list<double>", depth), self.make("int", depth - 1))
        return self._join("double({})", self.make(self.random.choice(("int", "string", "double")), depth))

    def _string_call(self, depth: int) -> Pair:
        r = self.random
        if r.random() < 0.5:
            return self._join(
                f"{{}}.{r.choice(('lowerAscii', 'upperAscii', 'trim'))}()",
                self.make(r.choice(("string", "string", "dyn")), depth),
            )
        if r.random() < 0.3:
            return self._join(
                r.choice(("{}[{}]",)), self.make("list<string>", depth), self.make("int", depth - 1)
            )
        kind = r.choice(("int", "bool", "string", "double", "timestamp", "duration", "bytes", "string"))
        return self._join("string({})", self.make(kind, depth) if kind != "double" else self._leaf("double"))

    def _bytes_call(self, depth: int) -> Pair:
        if self.random.random() < 0.5:
            return self._join("bytes({})", self.make("string", depth))
        return self._join("({} + {})", self.make("bytes", depth), self.make("bytes", depth))

    def _concat(self, depth: int) -> Pair:
        return self._join("({} + {})", self.make("string", depth), self.make("string", depth))

    def _moment_arithmetic(self, depth: int) -> Pair:
        form = self.random.choice(("({0} + {1})", "({0} - {1})", "({1} + {0})"))
        return self._join(form, self.make("timestamp", depth), self.make("duration", depth))

    def _span_arithmetic(self, depth: int) -> Pair:
        form = self.random.choice(("({0} + {1})", "({0} - {1})"))
        if self.random.random() < 0.4:
            return self._join("({} - {})", self.make("timestamp", depth), self.make("timestamp", depth))
        return self._join(form, self.make("duration", depth), self.make("duration", depth))

    def _dyn(self, depth: int) -> Pair:
        r = self.random
        match r.randrange(7):
            case 0:
                return self._join(
                    "dyn({})",
                    self.make(
                        r.choice(("int", "double", "string", "bool", "list<int>", "timestamp", "duration")),
                        depth,
                    ),
                )
            case 1:
                return self._same(f"dy.{r.choice(KEYS)}")
            case 2:
                return self._same(f"args.{r.choice(KEYS)}.{r.choice(KEYS)}")
            case 3:
                return self._join("dy[{}]", self.make(r.choice(("int", "string")), depth - 1))
            case 4:
                return self._join(
                    "[{}, {}][{}]",
                    self.make("int", depth - 1),
                    self.make("string", depth - 1),
                    self._same(str(r.randrange(3))),
                )
            case 5:
                return self._join("args[{}]", self._leaf("string"))
            case _:
                return self._leaf("dyn")

    def _list(self, of: str, depth: int) -> Pair:
        r = self.random
        inner = of[5:-1]
        choice = r.random()
        if choice < 0.3 and inner in ("int", "string", "double"):
            return self._join("({} + {})", self.make(of, depth - 1), self.make(of, depth - 1))
        if choice < 0.5 and inner in ("int", "string"):
            self._fresh += 1
            name = f"x{self._fresh}"
            source = self.make("list<int>", depth - 1)
            self.variables.append((name, "int"))
            try:
                body = self.make(inner, depth - 1)
                if r.random() < 0.3:
                    test = self._operand(depth - 1)
                    return self._join(f"{{}}.map({name}, {{}}, {{}})", source, test, body)
                return self._join(f"{{}}.map({name}, {{}})", source, body)
            finally:
                self.variables.pop()
        if choice < 0.6:
            self._fresh += 1
            name = f"x{self._fresh}"
            source = self.make(of, depth - 1)
            self.variables.append((name, inner))
            try:
                return self._join(f"{{}}.filter({name}, {{}})", source, self._operand(depth - 1))
            finally:
                self.variables.pop()
        if choice < 0.8:
            return self._leaf(of)
        return self._bracket([self.make(inner, depth - 1) for _ in range(r.randrange(1, 4))])

    def _map(self, of: str, depth: int) -> Pair:
        key, inner = of[4:-1].split(", ", 1)
        if self.random.random() < 0.5 or key != "string":
            return self._leaf(of)
        return self._braces(
            [
                (f"'{k}'", self.make(inner, depth - 1))
                for k in self.random.sample(KEYS, self.random.randrange(1, 3))
            ]
        )
