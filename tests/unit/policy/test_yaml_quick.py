"""The quick reader of YAML: it reads what the general one reads, as that one reads it, or nothing."""

from __future__ import annotations

import random
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml.error import YAMLError

from agentguard.policy import format_document
from agentguard.policy._nodes import DEPTH_MAX, Fields, Items, Node, Scalar
from agentguard.policy._problems import Problems, Source
from agentguard.policy._yaml_events import RefusedError, read_events
from agentguard.policy._yaml_quick import parse_quickly
from tests.support.policies import STARTERS, mistakes, starters

SLIPS = [" ", "  ", "\n", "#", " #", ":", ": ", "-", "- ", "'", '"', "[", "]", "{", "}", ",", "|", ">", ">-", "\\",
         "&", "*", "!", "?", "%", "@", "`", "---\n", "...\n", "a", "0", ".", "é", "~", "\t", "\r\n", "<<: "]  # fmt: skip


def shape(node: Node) -> object:
    """All that a node holds, so that two can be compared."""
    if isinstance(node, Scalar):
        return (node.text, node.line, node.column, node.style)
    if isinstance(node, Items):
        return ["list", node.line, node.column, *map(shape, node.items)]
    assert isinstance(node, Fields)
    return [
        "map",
        node.line,
        node.column,
        *((shape(key), shape(value)) for key, value in node.entries.values()),
    ]


def generally(text: str) -> list[object] | None:
    """What the general parser makes of a text; None where it refuses it, or notes a problem."""
    problems = Problems()
    try:
        nodes = read_events(Source("p.yaml", text), text, problems)
    except (RefusedError, YAMLError, ValueError):
        return None
    return None if problems.count else [shape(node) for node in nodes]


def agrees(text: str) -> bool:
    """Compare; say whether the quick reader read anything."""
    quick = parse_quickly(text)
    if quick is None:
        return False
    assert [shape(node) for node in quick] == generally(text), text
    return True


def files() -> list[str]:
    """Every file of the starters, their cases included."""
    return [path.read_text("utf-8") for path in sorted(Path(STARTERS).rglob("*.yaml"))]


def test_usual_files_are_read_quickly() -> None:
    """Without this the module would be of no use: most starters, and each as `fmt` lays it out."""
    read = [agrees(text) for text in files()]
    assert sum(read) >= len(read) * 0.6
    assert (
        sum(agrees(format_document(text.encode())) for text in starters().values()) >= len(starters()) * 0.6
    )


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("a: b\n", True),
        ("a: b", False),
        ("a:\n- b\n- c: d\n  e: f\ng: h\n", True),
        ("a:\n  - b # c\n  # d\n\n  - 'it''s'\n", True),
        ("a: |\n  b\n   c\n\n  d\ne: >-\n  f\n  g\n", True),
        ("a: |-\n  b\n\n\nc: d\n", True),
        ("a: |+\n  b\n", False),
        ("a: >\n  b\n\n  c\n", False),
        ("a: { b: [c, 'd, e'], f: group:g, h: -5, i: [] }\n", True),
        ("a: { b: c, }\n", False),
        ("a: [b,\n  c]\n", False),
        ("a: b\n  c\n", False),
        ("a: b c:d e#f\n", True),
        ("a: b: c\n", False),
        ("a: http://x/y?z=1&w\n", True),
        ('a: "b\\n"\n', False),
        ("a:\nb: c\n", False),
        ("a: b\na: c\n", False),
        ("a: &b c\n", False),
        ("a: !!str b\n", False),
        ("a: *b\n", False),
        ("? a\n: b\n", False),
        ("- a\n", False),
        ("--- \na: b\n", False),
        ("a: b\n---\nc: d\n", False),
        ("%YAML 1.2\n---\na: b\n", False),
        ("a:\tb\n", False),
        ("a: b\r\nc: d\r\n", False),
        (" a: b\n", False),
        ("a: b\n c: d\n", False),
        ("a:\n  b: c\n d: e\n", False),
        ("a:\n  - b\n c: d\n", False),
        ("a: |\n  b\n # c\nd: e\n", False),
        ("a: 'b' c\n", False),
        ("a: [b] c\n", False),
        ("<<: { a: b }\n", False),
    ],
)  # fmt: skip
def test_what_is_read(text: str, is_read: bool) -> None:
    """The ways of writing that it knows; each of them as the general parser reads it."""
    assert agrees(text) is is_read


def test_wrong_files_are_left_to_the_general_parser() -> None:
    """Whatever of the corpus of mistakes it does read, it reads alike."""
    for mistake in mistakes():
        try:
            agrees(mistake.data.decode("utf-8"))
        except UnicodeDecodeError:
            continue


def slips(count: int, seed: int) -> int:
    """Change starters at random places; give how many were read quickly all the same."""
    chance = random.Random(seed)
    texts = files()
    read = 0
    for _ in range(count):
        lines = chance.choice(texts).split("\n")
        first = chance.randrange(len(lines))
        text = textwrap.dedent("\n".join([*lines[first : first + chance.randrange(1, 12)], ""]))
        text = text if not text.startswith("-") else "a:\n" + text
        for _ in range(chance.randrange(1, 3)):
            place = chance.randrange(len(text))
            text = text[:place] + chance.choice(SLIPS) + text[place + chance.randrange(3) :]
        read += agrees(text)
    return read


def test_slips_are_read_alike() -> None:
    """A text with slips is read alike, or left to the general parser; both happen often."""
    assert 200 < slips(2_000, 26) < 1_700


@pytest.mark.long
def test_many_slips_are_read_alike() -> None:
    """The same a hundred times as often."""
    assert slips(200_000, 2_026) > 20_000


WORDS = st.sampled_from(["a", "b-c", "0", "1.5", "group:x", "x y", "x  y", "~", "true", "(a", "a#b", "a #b", "é", "-1",
                         "'a'", "''", "'a''b'", '"a b"', '"# a"', "a:", ":a", "a, b", "[]", "{}", "", "a?", "a:b", "-"])  # fmt: skip
FLOW = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(st.sampled_from(["a", "b", "c.d"]), inner), max_size=3).map(
            lambda entries: "{ " + ", ".join(f"{key}: {value}" for key, value in entries) + " }"
        ),
    ),
    max_leaves=6,
)
BLOCKS = st.sampled_from(
    ["|\n{}x\n{} y\n", ">-\n{}x\n{}y\n", "|-\n{}x\n\n{}y\n", "| # c\n{}x\n", ">\n{}x\n{} y\n"]
)


@st.composite
def documents(draw: st.DrawFn, indent: int = 0, depth: int = 0) -> str:
    """Block mappings and lists of texts, flow collections, block texts and comments, not all of them right."""
    text = ""
    for key in draw(st.lists(st.sampled_from(["a", "b", "c_d", "e.f", "g"]), min_size=1, max_size=3)):
        pad = " " * indent
        text += f"{pad}{key}:"
        what = draw(st.integers(0, 5 if depth < 3 else 3))
        if what <= 2:
            text += f" {draw(FLOW)}{draw(st.sampled_from(['', '  # c', ' ']))}\n"
        elif what == 3:
            text += " " + draw(BLOCKS).replace("{}", " " * (indent + draw(st.integers(1, 3))))
        elif what == 4:
            text += "\n" + draw(documents(indent + draw(st.integers(1, 3)), depth + 1))
        else:
            text += "\n"
            inner = indent + draw(st.integers(0, 2))
            for _ in range(draw(st.integers(1, 2))):
                item = draw(st.one_of(FLOW.map(lambda flow: f"{flow}\n"), documents(inner + 2, depth + 1)))
                text += " " * inner + "- " + item.lstrip(" ")
        text += draw(st.sampled_from(["", "", "\n", f"{pad}# c\n", " # d\n"]))
    return text


@given(documents())
def test_documents_are_read_alike(text: str) -> None:
    """Whatever it reads, it reads as the general parser does."""
    agrees(text)


@pytest.mark.parametrize("depth", [22, 23, 24, 25])
def test_both_readers_go_as_deep(depth: int) -> None:
    """What is nested deeper than the limit is refused by the one, and left to it by the other."""
    for text in (
        f"a: {'[' * depth}b{']' * depth}\n",
        "".join(f"{' ' * level}a:\n" for level in range(depth)) + f"{' ' * depth}a: b\n",
    ):
        assert agrees(text) is (generally(text) is not None) is (depth < DEPTH_MAX)
