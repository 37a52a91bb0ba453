"""The canonical layout: it changes nothing that is said, keeps comments, and settles at once."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError
from agentguard.policy import format_document, load_texts
from tests.support.policies import STARTERS, document

FILES = sorted(STARTERS.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_starters_are_laid_out(path: object) -> None:
    """They are examples of it."""
    assert format_document(path.read_bytes(), "p.yaml").encode() == path.read_bytes()  # type: ignore[attr-defined]


def test_comments_and_text_stay() -> None:
    """At the top, beside values, between documents and at the end; blocks of text keep their white space."""
    text = (
        "# top\n\na:   {}\nb: {x: {}, y: [1,2 ,{z: 1}]}   # c\n---\n# between\nc:\n- d: |\n    x  \n      y\n\n"
        "  e: 'on'\n- plain text\n  over lines\n# end\n"
    )
    once = format_document(text.encode())
    assert [word for word in ("# top", "# c", "# between", "# end") if word not in once] == []
    assert "b: { x: {}, y: [1, 2, { z: 1 }] }" in once
    assert "x  \n" in once
    assert "e: 'on'" in once
    assert "- plain text over lines\n" in once
    assert format_document(once.encode()) == once


def test_windows_line_ends_go() -> None:
    """A file has one kind."""
    assert format_document(b"a: 1\r\nb:\r\n- 2\r\n") == "a: 1\nb:\n  - 2\n"


@pytest.mark.parametrize(
    "wrong", [b"a: [1", b"a: 1\na: 2\n", b"a: &x 1\nb: *x\n", b"\xff", b"", b"a:\t1\n\tb"]
)
def test_what_is_no_policy_yaml_is_refused(wrong: bytes) -> None:
    """As the loader refuses it."""
    with pytest.raises(PolicyDocumentError):
        format_document(wrong)


_SCALARS = st.one_of(
    st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=30),
    st.sampled_from(["on", "no", "12:30", "null", "1e3", "0x10", "", " ", "#x", "a: b", "- a", "é", "x" * 130, "it's", "a\nb", "a\n\n b\n"]),
)  # fmt: skip


@st.composite
def _yaml(draw: st.DrawFn, depth: int = 3) -> str:
    """Flow-style YAML with arbitrary spacing."""
    space = draw(st.sampled_from(["", " ", "  "]))
    kind = draw(st.integers(0, 4 if depth else 1))
    if kind <= 1:
        text = draw(_SCALARS)
        if kind == 0 or "\n" in text:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            return f'"{escaped}"'
        return "'" + text.replace("'", "''") + "'"
    if kind == 2:
        return draw(st.sampled_from(["1", "-2.5", "1e3", "true", "null", "~", "0x1f", "word", "10:20"]))
    if kind == 3:
        return f"[{space}" + f"{space}, ".join(draw(st.lists(_yaml(depth - 1), max_size=4))) + f"{space}]"
    keys = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=4))
    return f"{{{space}" + ", ".join(f"{key}: {draw(_yaml(depth - 1))}" for key in keys) + f"{space}}}"


@given(st.dictionaries(st.sampled_from("klmnop"), _yaml(), min_size=1))
def test_laws(fields: dict[str, str]) -> None:
    """What is written says the same, and is written the same again; or the file is left as it is, in words."""
    text = "".join(f"{key}:   {value}\n" for key, value in fields.items())
    try:
        once = format_document(text.encode())
    except PolicyDocumentError:
        return
    assert format_document(once.encode()) == once


@given(st.data())
def test_a_policy_keeps_its_revision(data: st.DataObject) -> None:
    """Whatever the layout was."""
    text = document(
        "A | tool.before | tool.name == 'x' && args.n > 5 | deny", "B | tool.before | args.n > 6 | warn"
    )
    text = re.sub(r"(?m)^(  +)", lambda m: m[1], text)
    spaced = re.sub(r": (?=\S)", lambda _: ":" + " " * data.draw(st.integers(1, 3)), text)
    once = format_document(spaced.encode())
    assert load_texts({"a": once}).revision == load_texts({"a": spaced}).revision
