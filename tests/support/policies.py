"""Policies for tests: builders, the starters, and hundreds of ways to get one wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agentguard.policy import Bundle, Engine, load_texts

STARTERS = Path(__file__).resolve().parents[2] / "policies"

HEAD = """\
apiVersion: agentguard/v1
kind: Policy
metadata: {{ name: {name} }}
{scope}defaults: {{ unmatched: {unmatched}, mode: {mode}, timezone: UTC }}
rules:
"""


def document(
    *rules: str, name: str = "p", unmatched: str = "allow", mode: str = "enforce", scope: str = ""
) -> str:
    """Write a policy around rules, each `ID | at | when | then`, with more fields after further bars."""
    text = HEAD.format(name=name, unmatched=unmatched, mode=mode, scope=f"scope: {scope}\n" if scope else "")
    for rule in rules:
        rule_id, at, when, then, *more = (part.strip() for part in rule.split(" | "))
        text += f"  - id: {rule_id}\n    title: About {rule_id}\n    at: {at}\n    when: {quote(when)}\n    then: {then}\n"
        for field in more:
            text += f"    {field}\n"
    return text


def quote(text: str) -> str:
    """Put text in single quotes of YAML."""
    return "'" + text.replace("'", "''") + "'"


def bundle(*documents: str) -> Bundle:
    """Load documents from memory."""
    return load_texts({f"{number}.yaml": text for number, text in enumerate(documents)})


def engine(*rules: str, **head: str) -> Engine:
    """An engine of one policy."""
    return Engine(bundle(document(*rules, **head)))


def call(tool: str = "refund", **facts: object) -> dict[str, object]:
    """Facts of a tool call; keyword `run__repeats` is the fact `run.repeats`."""
    given: dict[str, object] = {
        "tool.name": tool,
        "tool.effect": "write",
        "agent.name": "support",
        "env.name": "prod",
        "args": {},
        "run.repeats": 0,
    }
    given.update({name.replace("__", "."): value for name, value in facts.items()})
    return given


class Mistake(NamedTuple):
    """One wrong document."""

    name: str
    data: bytes
    code: str
    """The code that the problem must have, or empty: any."""
    line: int
    """Where the problem must be; 0: anywhere."""


def starters() -> dict[str, str]:
    """The starter policies by path, without their tests."""
    return {
        str(path.relative_to(STARTERS)): path.read_text("utf-8")
        for path in sorted(STARTERS.rglob("*.yaml"))
        if not path.name.endswith(".test.yaml")
    }


def typos(word: str) -> list[str]:
    """A word with one letter twice, one missing, two swapped, and one too many."""
    middle = max(1, len(word) // 2)
    swapped = word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
    made = [word + word[-1], word[:-1], swapped, word[:middle] + "x" + word[middle:]]
    return [one for one in dict.fromkeys(made) if one and one != word]


_KEY = re.compile(r"(?<![\w.'-])(apiVersion|kind|metadata|defaults|rules|scope|unmatched|mode|timezone|id|title|"
                  r"at|when|then|record|message|agent|controls|severity|require_approval|approvals|from|expires|"
                  r"on_timeout|deny|redact|retry_after|vars|version|name|throttle|circuit_break|kill|key|limit|window|"
                  r"open_for|probe|wait|budgets|measure|reserve|call_max|soft|owner|reviewers)(?=:)")  # fmt: skip
_WORDS = {
    "then: deny": "unknown-effect",
    "then: allow": "unknown-effect",
    "then: warn": "unknown-effect",
    "mode: enforce": "unknown-word",
    "mode: shadow": "unknown-word",
    "record: required": "unknown-word",
    "severity: high": "unknown-word",
    "at: tool.before": "unknown-word",
    "at: model.before": "unknown-word",
    "unmatched: allow": "unknown-word",
    "unmatched: deny": "unknown-word",
    "kind: Policy": "unknown-kind",
    "timezone: UTC": "unknown-timezone",
    "on_timeout: deny": "unknown-word",
    "kind: fix_input": "unknown-word",
    "kind: wait": "unknown-word",
    "measure: cost.usd": "unknown-word",
    "reserve: estimate": "unknown-word",
    "scope: agent": "unknown-word",
}


def field_typos(each: int) -> Iterator[Mistake]:
    """Every field name of every starter, misspelt."""
    for path, text in starters().items():
        seen: set[str] = set()
        body = "\n".join(" " * len(line) if line.startswith("#") else line for line in text.split("\n"))
        for found in _KEY.finditer(body):
            word = found[0]
            if word in seen or (word == "agent" and "unmatched: {" in body[: found.start()][-14:]):
                continue
            seen.add(word)
            for number, typo in enumerate(typos(word)[:each]):
                wrong = text[: found.start()] + typo + text[found.end() :]
                line = text.count("\n", 0, found.start()) + 1
                yield Mistake(f"{path}: field {word} as {typo} ({number})", wrong.encode(), "", line)


def word_typos(each: int) -> Iterator[Mistake]:
    """Every word of a closed set, misspelt."""
    for path, text in starters().items():
        for phrase, code in _WORDS.items():
            at = re.search(re.escape(phrase) + r"(?![\w.])", text)
            if at is None:
                continue
            key, word = phrase.split(": ")
            line = text.count("\n", 0, at.start()) + 1
            for typo in typos(word)[:each]:
                wrong = f"{text[: at.start()]}{key}: {typo}{text[at.end() :]}"
                yield Mistake(f"{path}: {phrase} as {typo}", wrong.encode(), code, line)


def condition_typos() -> Iterator[Mistake]:
    """Facts, variables and functions in conditions, misspelt; operators halved; brackets left open."""
    names = re.compile(
        r"\b(?:tool|env|run|drift|cost|vars|model|agent)\.[a-z_0-9]+|\b(?:detects|exists|matches|contains)\b"
    )
    for path, text in starters().items():
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip().startswith(("when:", "tool.name in", "args.query")):
                continue
            for found in names.finditer(line):
                typo = found[0] + "x"
                wrong = text.split("\n")
                wrong[number - 1] = line[: found.start()] + typo + line[found.end() :]
                yield Mistake(f"{path}:{number}: {found[0]} as {typo}", "\n".join(wrong).encode(), "", number)
            for operator, half in ((" && ", " & "), (" == ", " = "), (" || ", " | "), (" in ", " inn ")):
                if operator in line and ">-" not in line:
                    wrong = text.split("\n")
                    wrong[number - 1] = line.replace(operator, half, 1)
                    yield Mistake(
                        f"{path}:{number}: {operator} as {half}", "\n".join(wrong).encode(), "", number
                    )


def value_typos(each: int) -> Iterator[Mistake]:
    """Every value of a fact that has few of them, misspelt where a condition compares it."""
    words = re.compile(
        r"(?<=drift\.status == ')[a-z]+(?=')|(?<=tool\.effect != ')[a-z]+(?=')|(?<=tool\.effect in \[')[a-z]+(?=')"
    )
    for path, text in starters().items():
        for found in words.finditer(text):
            for typo in typos(found[0])[:each]:
                wrong = text[: found.start()] + typo + text[found.end() :]
                line = text.count("\n", 0, found.start()) + 1
                yield Mistake(
                    f"{path}:{line}: value {found[0]} as {typo}", wrong.encode(), "unknown-value", line
                )


def wrong_types() -> Iterator[Mistake]:
    """Values of another type."""
    values = ("7", "[a, b]", "{ a: 1 }", "", "true", "null")
    for path, text in list(starters().items())[:3]:
        for key in (
            "id",
            "title",
            "at",
            "when",
            "then",
            "name",
            "defaults",
            "mode",
            "unmatched",
            "timezone",
        ):
            stop = "" if key == "title" else ","
            found = re.search(rf"(?m)(?<=[ {{-]){key}: [^{stop}}}\n]+", text) or re.search(
                rf"(?m)^{key}:.*$", text
            )
            if found is None or text[: found.start()].endswith("#"):
                continue
            for value in values:
                wrong = text[: found.start()] + f"{key}: {value}" + text[found.end() :]
                yield Mistake(f"{path}: {key}: {value or 'nothing'}", wrong.encode(), "", 0)


def broken_files() -> Iterator[Mistake]:
    """Files that are no YAML of ours at all."""
    text = starters()["spending.yaml"]
    lines = text.split("\n")
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    rules = text.index("rules:")
    yield Mistake("empty", b"", "empty-file", 1)
    yield Mistake("comments only", b"# nothing\n# here\n", "empty-file", 1)
    yield Mistake("a list", b"- a\n- b\n", "wrong-type", 1)
    yield Mistake("a word", b"policy\n", "wrong-type", 1)
    yield Mistake("an empty second document", text.encode() + b"---\n", "wrong-type", 0)
    yield Mistake("alias bomb", bomb.encode(), "yaml-alias", 1)
    yield Mistake("anchor", text.replace("vars:", "vars: &v", 1).encode(), "yaml-alias", 0)
    yield Mistake(
        "merge key", text.replace("vars:\n", "vars:\n  <<: { a: 1 }\n", 1).encode(), "yaml-alias", 0
    )
    yield Mistake(
        "python tag",
        text.replace("run_usd: 5.0", "run_usd: !!python/object/apply:os.system [ls]").encode(),
        "yaml-tag",
        0,
    )
    yield Mistake(
        "a tag for text", text.replace("run_usd: 5.0", "run_usd: !!str 5.0").encode(), "yaml-tag", 0
    )
    yield Mistake("a directive of YAML 1.1", b"%YAML 1.1\n---\n" + text.encode(), "yaml-directive", 0)
    yield Mistake("a tag directive", b"%TAG ! tag:x,2000:\n---\n" + text.encode(), "yaml-directive", 0)
    yield Mistake("tab before a key", text.replace("    title:", "\ttitle:", 1).encode(), "", 0)
    yield Mistake(
        "tab as indentation", text.replace("  payment_tools", "\tpayment_tools", 1).encode(), "tab", 0
    )
    yield Mistake("an open quote", text.replace('"The amount', "'The amount", 1).encode(), "yaml-syntax", 0)
    yield Mistake(
        "an open bracket",
        text.replace("issue_credit, wire_transfer]", "issue_credit, wire_transfer").encode(),
        "",
        0,
    )
    yield Mistake("an open brace", text.replace("timezone: UTC }", "timezone: UTC").encode(), "", 0)
    yield Mistake(
        "a colon in a title",
        text.replace("title: No payment above", "title: No: payment: above").encode(),
        "yaml-syntax",
        0,
    )
    yield Mistake(
        "two keys",
        text.replace("    then: deny\n", "    then: deny\n    then: allow\n", 1).encode(),
        "duplicate-key",
        0,
    )
    yield Mistake("two rules lists", (text + "rules: []\n").encode(), "duplicate-key", 0)
    yield Mistake("NUL", text.replace("spending", "spen\0ding", 1).encode(), "yaml-syntax", 0)
    yield Mistake("bell", text.replace("spending", "spen\x07ding", 1).encode(), "yaml-syntax", 0)
    yield Mistake("a byte order mark", b"\xef\xbb\xbf" + text.encode(), "byte-order-mark", 1)
    yield Mistake("UTF-16", text.encode("utf-16"), "encoding", 1)
    yield Mistake("Latin-1", text.replace("Limits", "Límits").encode("latin-1"), "encoding", 0)
    yield Mistake("cut in a character", "a: é".encode()[:-1], "encoding", 1)
    yield Mistake(
        "bidirectional text", text.replace("No payment", "No \u202epayment").encode(), "hidden-character", 0
    )
    yield Mistake(
        "zero-width space", text.replace("SPD-002", "SPD\u200b-002").encode(), "hidden-character", 0
    )
    yield Mistake("deep list", b"a: " + b"[" * 500 + b"]" * 500, "too-deep", 1)
    yield Mistake("deep map", ("\n".join(" " * i + "a:" for i in range(200))).encode(), "too-deep", 0)
    yield Mistake("too large", b"# " + b"x" * (1 << 20), "file-too-large", 0)
    yield Mistake("a very long line", b"!" * 900_000, "file-too-large", 1)
    yield Mistake("a list as a key", b"? [a, b]\n: c\n", "yaml-key", 1)
    yield Mistake("binary", bytes(range(256)) * 4, "", 0)
    yield Mistake("ELF", b"\x7fELF\x02\x01\x01" + bytes(64), "", 0)
    yield Mistake("gzip", b"\x1f\x8b\x08\x00" + bytes(range(200, 256)), "encoding", 0)
    yield Mistake("JSON cut short", b'{"apiVersion": "agentguard/v1", ', "yaml-syntax", 0)
    yield Mistake(
        "Windows line ends and a tab",
        text.replace("\n", "\r\n").replace("  cap_usd", "\tcap_usd", 1).encode(),
        "tab",
        0,
    )
    yield Mistake(
        "another version", text.replace("agentguard/v1", "agentguard/v2").encode(), "unknown-version", 0
    )
    yield Mistake(
        "another kind", text.replace("kind: Policy", "kind: ConfigMap", 1).encode(), "unknown-kind", 0
    )
    yield Mistake("another kind", text.replace("kind: Policy", "kind: Waiver", 1).encode(), "unknown-kind", 0)
    yield Mistake("no rules", text[:rules].encode(), "missing-field", 0)
    yield Mistake("an empty list of rules", (text[:rules] + "rules: []\n").encode(), "empty-list", 0)
    yield Mistake("rules as a mapping", (text[:rules] + "rules: { a: 1 }\n").encode(), "wrong-type", 0)
    yield Mistake("a rule that is text", (text + "  - deny everything\n").encode(), "wrong-type", 0)
    yield Mistake("an id twice", text.replace("SPD-002", "SPD-001").encode(), "duplicate-rule", 0)
    yield Mistake("an id with spaces", text.replace("SPD-002", "SPD 002").encode(), "wrong-form", 0)
    yield Mistake(
        "a number in quotes", text.replace("approvals: 1", 'approvals: "1"').encode(), "wrong-type", 0
    )
    yield Mistake(
        "too many approvals", text.replace("approvals: 1", "approvals: 100").encode(), "out-of-range", 0
    )
    yield Mistake("no approvals", text.replace("approvals: 1", "approvals: 0").encode(), "out-of-range", 0)
    yield Mistake(
        "a duration without unit", text.replace("expires: 1h", "expires: 60").encode(), "wrong-type", 0
    )
    yield Mistake(
        "a duration of a year", text.replace("expires: 1h", "expires: 365d").encode(), "out-of-range", 0
    )
    yield Mistake(
        "allow on timeout", text.replace("on_timeout: deny", "on_timeout: allow").encode(), "unknown-word", 0
    )
    yield Mistake(
        "another day",
        text.replace("  version: 1.0.0", "  version: 1.0.0\n  recertify_by: 28.02.2027").encode(),
        "wrong-form",
        0,
    )
    yield Mistake(
        "infinity in vars", text.replace("cap_usd: 500.0", "cap_usd: .inf").encode(), "out-of-range", 0
    )
    yield Mistake(
        "not a number in vars", text.replace("cap_usd: 500.0", "cap_usd: .nan").encode(), "out-of-range", 0
    )
    yield Mistake(
        "a limit as text", text.replace("cap_usd: 500.0", 'cap_usd: "500.0"').encode(), "number-as-text", 0
    )
    yield Mistake(
        "a huge number", text.replace("cap_usd: 500.0", "cap_usd: " + "9" * 30).encode(), "out-of-range", 0
    )
    for effect in ("throttle", "circuit_break", "kill", "fallback"):
        yield Mistake(
            f"effect {effect}", text.replace("then: deny", f"then: {effect}", 1).encode(), "missing-field", 0
        )
    yield Mistake("key budgets", (text + "budgets: []\n").encode(), "empty-list", 0)
    for key in ("invariants",):
        yield Mistake(f"key {key}", (text + f"{key}: []\n").encode(), "not-supported", 0)
    for count in range(4, len(lines) - 12, 3):
        cut = "\n".join(lines[:count])
        if "rules:" not in cut:
            yield Mistake(f"cut after line {count}", cut.encode(), "", 0)


def mistakes(typos_each: int = 1) -> list[Mistake]:
    """All of them; each word misspelt in so many ways, at most four."""
    return [
        *field_typos(typos_each),
        *word_typos(typos_each),
        *condition_typos(),
        *value_typos(typos_each),
        *wrong_types(),
        *broken_files(),
    ]
