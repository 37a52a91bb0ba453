"""The demo's page: 80 columns, no colour in files, nothing foreign printed as it is."""

from __future__ import annotations

import io

from rich.console import Console

from agentguard.cli.demo.findings import Exhibit, Finding
from agentguard.cli.demo.page import Page

FINDING = Finding(
    title="Model drift",
    story="The provider puts another version behind the same model name, and says nothing about it to anyone.",
    without="answers grew from 34 to 71 words, and a refund was paid on one of them",
    with_guard=("drift in output_tokens", "the refund waits for a person"),
    command="agentguard drift status",
    caught=True,
    short="seen; writes wait",
)
EVIL = "ok\x1b[2J\u202e\rgone"


def page(*, width: int = 80, is_terminal: bool = False) -> tuple[Page, io.StringIO]:
    """A page that prints into a string."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=is_terminal, highlight=False, soft_wrap=True)
    return Page(console), out


def test_lines_fit_80_columns() -> None:
    """No line of any part is longer, also on a wide terminal."""
    for width in (80, 200):
        made, out = page(width=width)
        made.opening("agentguard demo", "words " * 60)
        made.scene(1, FINDING)
        made.exhibit(Exhibit("Control", ("line " * 40,), verbatim="x" * 300, command="agentguard spans"))
        made.closing([FINDING] * 6, "6 of 6 caught")
        made.steps(
            "The same for your own agent:", [("pip install agentguard", ""), ("agentguard init", "key")]
        )
        assert max(map(len, out.getvalue().splitlines())) <= 80


def test_scene_has_all_parts() -> None:
    """A scene shows what would have happened, what was done, and the command."""
    made, out = page()
    made.scene(1, FINDING)
    text = out.getvalue()
    heading = next(line for line in text.splitlines() if line)
    assert heading.startswith("1  Model drift ")
    assert heading.endswith(" caught")
    assert len(heading) == 80
    assert "   without  answers grew" in text
    assert "   with     drift in output_tokens" in text
    assert "            the refund waits" in text
    assert "   see it   agentguard drift status" in text


def test_what_was_not_caught_says_so() -> None:
    """The verdict of a failed scene is loud, in the heading and in the table."""
    import dataclasses

    failed = dataclasses.replace(FINDING, caught=False)
    made, out = page()
    made.scene(1, failed)
    made.closing([failed], "0 of 1 caught")
    assert out.getvalue().count("NOT CAUGHT") == 2


def test_no_colour_in_files() -> None:
    """Without a terminal there is no escape sequence; with one there is."""
    made, out = page()
    made.scene(1, FINDING)
    assert "\x1b" not in out.getvalue()
    made, out = page(is_terminal=True)
    made.scene(1, FINDING)
    assert "\x1b[" in out.getvalue()


def test_foreign_text_is_escaped_everywhere() -> None:
    """Control and bidi characters of a tool, a model or a file reach no terminal."""
    evil = Finding(
        title=EVIL, story=EVIL, without=EVIL, with_guard=(EVIL,), command=EVIL, caught=False, short=EVIL
    )
    made, out = page()
    made.opening(EVIL, EVIL)
    made.scene(1, evil)
    made.exhibit(Exhibit(EVIL, (EVIL,), verbatim=EVIL, command=EVIL))
    made.closing([evil], EVIL)
    made.steps(EVIL, [(EVIL, EVIL)])
    made.sentence(EVIL)
    text = out.getvalue()
    assert not set("\x1b\u202e\r") & set(text)
    assert "\\x1b[2J" in text


def test_brackets_are_no_markup() -> None:
    """A title in square brackets is printed as it is."""
    made, out = page()
    made.sentence("[bold]a[/bold] [x")
    assert "[bold]a[/bold] [x" in out.getvalue()
