"""
What one mistake in a policy does, in agentguard and in other policy engines.

    python benchmarks/fail_open.py [--write docs/explanation/failing-closed.md] [--list ENGINE]

The same eight prohibitions are written in the language of each engine
(`policy_rivals.py`), and all engines answer fourteen calls alike. Then one
mistake is made at a time, at every place where it can be made: a name is
misspelt, a number becomes a text, a fact is not there. Counted is what happens
to the calls that have to be denied. Needs `requirements/bench-policy.txt`;
engines that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from policy_rivals import CALLS, NOBODY, RIVALS, Ask, Rival

REFUSED = "refused at load"
DENIED = "denied at run"
HARMLESS = "nothing changed"
OPENED = "deny became allow"
OUTCOMES = (REFUSED, DENIED, HARMLESS, OPENED)
BEGIN, END = "<!-- begin: benchmarks/fail_open.py -->", "<!-- end -->"

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?![\w.])")
_NEAR = {
    "==": ("=",), "!=": ("=!",), "<=": ("=<",), ">=": ("=>",), ">": (">>",), "<": ("<<",), "&&": ("&",),
    "||": ("|",), "!": ("!!!",), "=": ("-",),
}  # fmt: skip
_OPERATOR = re.compile(r"==|!=|<=|>=|&&|\|\||[<>!=]")
_TURNED = {"==": "!=", "!=": "==", "<=": ">=", ">=": "<=", ">": "<", "<": ">"}


def _areas(rival: Rival) -> tuple[str, list[tuple[int, int]]]:
    """The text of an engine, and where titles, comments and texts stand in it."""
    quote = re.escape(rival.quote)
    free = re.compile(rf"{quote}[^{quote}\n]*{quote}|^ *(?:#|//|title:|metadata:).*$", re.MULTILINE)
    return rival.text, [match.span() for match in free.finditer(rival.text)]


def _outside(spans: list[tuple[int, int]], place: int) -> bool:
    return not any(start <= place < end for start, end in spans)


def _typos(word: str) -> list[str]:
    middle = max(1, len(word) // 2)
    swapped = word[: middle - 1] + word[middle : middle + 1] + word[middle - 1] + word[middle + 1 :]
    made = [word + word[-1], word[:-1], swapped]
    return [one for one in dict.fromkeys(made) if one and one != word]


def _put(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def names(rival: Rival) -> Iterator[str]:
    """Every word outside texts, titles and comments with a letter twice, one missing, two swapped."""
    text, spans = _areas(rival)
    for found in _WORD.finditer(text):
        if _outside(spans, found.start()):
            for typo in _typos(found[0]):
                yield _put(text, *found.span(), typo)


def types(rival: Rival) -> Iterator[str]:
    """Every number as a text, every text as a number."""
    text, spans = _areas(rival)
    for found in _NUMBER.finditer(text):
        if _outside(spans, found.start()):
            yield _put(text, *found.span(), f"{rival.quote}{found[0]}{rival.quote}")
    for start, end in spans:
        if text[start] == rival.quote:
            yield _put(text, start, end, "0")


def operators(rival: Rival) -> Iterator[str]:
    """Every operator with its characters swapped, one missing or one too many."""
    text, spans = _areas(rival)
    for found in _OPERATOR.finditer(text):
        if _outside(spans, found.start()):
            for near in _NEAR[found[0]]:
                yield _put(text, *found.span(), near)


def syntax(rival: Rival) -> Iterator[str]:
    """Every bracket, quote, comma and colon left out; every file cut in the middle of a line."""
    text, spans = _areas(rival)
    for place, character in enumerate(text):
        quotes = character == rival.quote and not _outside(spans, place)
        if quotes or (character in "()[]{},:;" and _outside(spans, place)):
            yield _put(text, place, place + 1, "")
    start = 0
    for line in text.split("\n"):
        if len(line.strip()) > 1 and _outside(spans, start + len(line) // 2):
            yield text[: start + (len(line) + len(line) - len(line.lstrip())) // 2] + "\n"
        start += len(line) + 1


def files(rival: Rival) -> Iterator[str]:
    """A file that is empty, that holds comments only, that is no text at all."""
    mark = "//" if rival.text.startswith(("permit", "tool ==")) else "#"
    yield ""
    yield "\n \n"
    yield f"{mark} nothing\n{mark} here\n"
    yield "\x00\x01\x02\x03"
    yield "PK\x03\x04 not a policy"


def texts(rival: Rival) -> Iterator[str]:
    """Every text misspelt: the name of a tool, an environment, a role."""
    text, spans = _areas(rival)
    for start, end in spans:
        if text[start] == rival.quote:
            for typo in _typos(text[start + 1 : end - 1]):
                yield _put(text, start + 1, end - 1, typo)


def turned(rival: Rival) -> Iterator[str]:
    """Every comparison turned round."""
    text, spans = _areas(rival)
    for found in _OPERATOR.finditer(text):
        if found[0] in _TURNED and _outside(spans, found.start()):
            yield _put(text, *found.span(), _TURNED[found[0]])


MISTAKES: dict[str, Callable[[Rival], Iterator[str]]] = {
    "a word misspelt": names,
    "a value of another type": types,
    "an operator misspelt": operators,
    "a bracket, quote or comma missing; a file cut in a line": syntax,
    "no policy in the file": files,
}
VALID: dict[str, Callable[[Rival], Iterator[str]]] = {
    "a text misspelt": texts,
    "a comparison turned round": turned,
}
"""Mistakes after which the policy is as well formed as before, and says something else."""

FACTS = "a fact missing, or of another type"


def wrong_facts(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each fact missing, null, or of another type; the tool is known in any case."""
    for name, value in facts.items():
        if name == "tool":
            continue
        yield {known: other for known, other in facts.items() if known != name}
        others: list[object] = [None, [value]] if not isinstance(value, list) else [None, value[0], 0]
        others.append(str(value) if isinstance(value, int) else 0 if isinstance(value, str) else "")
        for other in others:
            yield {**facts, name: other}


def may_run(ask: Ask, facts: Mapping[str, Any]) -> bool:
    """Whether a call runs: what raises, denies."""
    try:
        return ask(facts)()
    except Exception:
        return False


def of_policy(rival: Rival, text: str) -> str:
    """What became of the calls after one mistake in the policy."""
    try:
        ask = rival.load(text)
    except Exception:
        return REFUSED
    answers = {name: may_run(ask, {**NOBODY, **facts}) for name, (facts, _) in CALLS.items()}
    if any(answers[name] and not may for name, (_, may) in CALLS.items()):
        return OPENED
    return DENIED if any(may and not answers[name] for name, (_, may) in CALLS.items()) else HARMLESS


def of_facts(rival: Rival) -> Counter[str]:
    """What becomes of calls that have to be denied when one fact is wrong."""
    ask = rival.load(rival.text)
    found: Counter[str] = Counter()
    for facts, may in CALLS.values():
        if not may:
            for wrong in wrong_facts({**NOBODY, **facts}):
                found[OPENED if may_run(ask, wrong) else DENIED] += 1
    return found


def table(engines: list[Rival], *, listing: str = "") -> str:
    """All engines and all kinds of mistakes, as Markdown."""
    total: dict[str, Counter[str]] = defaultdict(Counter)
    rows: dict[str, dict[str, Counter[str]]] = {}
    for kind, make in {**MISTAKES, FACTS: None, **VALID}.items():
        rows[kind] = {}
        for rival in engines:
            if make is None:
                found = of_facts(rival)
            else:
                made = [text for text in dict.fromkeys(make(rival)) if text != rival.text]
                results = [(of_policy(rival, text), text) for text in made]
                found = Counter(result for result, _ in results)
                if rival.name == listing:
                    for result, text in results:
                        if result == OPENED:
                            print(f"--- {kind}\n{_changed(rival.text, text)}", file=sys.stderr)
            rows[kind][rival.name] = found
            if kind not in VALID:
                total[rival.name] += found
    lines = [f"| engine | mistakes | {' | '.join(OUTCOMES)} |", "|---|---:|---:|---:|---:|---:|"]
    for rival in engines:
        found = total[rival.name]
        cells = " | ".join(str(found[outcome]) for outcome in OUTCOMES[:-1])
        share = f"**{found[OPENED]}** ({found[OPENED] / found.total():.1%})"
        lines.append(f"| {rival.name} {rival.version} | {found.total()} | {cells} | {share} |")
    lines += ["", "Deny became allow, of so many mistakes of each kind:", ""]
    lines += [
        f"| mistake | {' | '.join(rival.name for rival in engines)} |",
        f"|---|{'---:|' * len(engines)}",
    ]
    for kind, by_engine in rows.items():
        if kind == next(iter(VALID)):
            lines.append(f"| *well formed, and something else* |{' |' * len(engines)}")
        cells = " | ".join(f"{found[OPENED]} of {found.total()}" for found in by_engine.values())
        lines.append(f"| {kind} | {cells} |")
    return "\n".join(lines) + "\n"


def _changed(before: str, after: str) -> str:
    """The lines in which two texts differ."""
    pairs = zip(before.split("\n"), after.split("\n"), strict=False)
    return "\n".join(f"- {one}\n+ {other}" for one, other in pairs if one != other)[:400]


def main() -> int:
    """Print the table, or put it into a page."""
    parser = argparse.ArgumentParser(description="what one mistake in a policy does")
    parser.add_argument("--write", type=Path, help="page whose marked part is replaced")
    parser.add_argument("--list", default="", help="engine whose opening mistakes go to standard error")
    options = parser.parse_args()
    engines = [rival for rival in RIVALS if rival.version]
    absent = [rival for rival in RIVALS if not rival.version]
    for rival in engines:
        ask = rival.load(rival.text)
        wrong = [name for name, (facts, may) in CALLS.items() if may_run(ask, {**NOBODY, **facts}) is not may]
        if wrong:
            print(f"{rival.name} {rival.version}: other answers to {', '.join(wrong)}", file=sys.stderr)
            return 2
    text = table(engines, listing=options.list)
    if absent:
        text += f"\nNot installed, so not in the table: {', '.join(rival.name for rival in absent)}.\n"
    if options.write is None:
        print(text, end="")
        return 0
    if absent:
        print(text, end="", file=sys.stderr)
        return 2
    page = options.write.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    options.write.write_text(f"{before}{BEGIN}\n{text}{END}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
