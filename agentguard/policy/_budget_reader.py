"""Read `budgets`: what may be used up, as rules that only speak where it is."""

from __future__ import annotations

import math
from collections.abc import Collection

from agentguard.policy._effects import read_key
from agentguard.policy._model import BEFORE_POINTS, Action
from agentguard.policy._nodes import Fields, Node, Scalar
from agentguard.policy._reader import Reader
from agentguard.policy._rule_reader import ID, ID_FORM, RuleDraft, read_message, read_points, read_when
from agentguard.values import BudgetTerms, DenialKind, Effect, Mode, Point, RecordMode

BUDGETS_MAX = 1_000
"""Budgets of one document."""
AMOUNT_MAX = 1_000_000_000
"""The largest limit, in dollars, tokens, calls or seconds."""

UNITS = {"cost.usd": 1_000_000_000, "tokens": 1, "calls": 1, "time.s": 1_000}
"""Units of the amounts in `BudgetTerms`, in one of the measure."""
_POINTS = {
    "cost.usd": (Point.MODEL_BEFORE,),
    "tokens": (Point.MODEL_BEFORE,),
    "calls": (Point.TOOL_BEFORE,),
    "time.s": (Point.TOOL_BEFORE,),
}
_RESERVES = ("estimate", "max", "none")


def read_budgets(reader: Reader, node: Node | None, taken: Collection[str]) -> tuple[RuleDraft, ...]:
    """
    Read all budgets of a document.

    Args:
        reader:
            Of its document.
        node:
            The list, or None where there is none.
        taken:
            Ids that its rules have.

    Returns:
        One rule for each budget that could be read.
    """
    if node is None:
        return ()
    items = reader.items(node, "budgets") or []
    if len(items) > BUDGETS_MAX:
        reader.problem(items[BUDGETS_MAX], f"more than {BUDGETS_MAX} budgets", code="file-too-large")
        return ()
    seen = set(taken)
    drafts: list[RuleDraft] = []
    for item in items:
        draft = _budget(reader, item)
        if draft is None:
            continue
        if draft.id in seen:
            reader.problem(
                item, f"rule id `{draft.id}` stands twice", code="duplicate-rule",
                hint=f"an id is {ID_FORM}, and unique among rules and budgets",
            )  # fmt: skip
        seen.add(draft.id)
        drafts.append(draft)
    return tuple(drafts)


def _budget(reader: Reader, node: Node) -> RuleDraft | None:
    """Read one budget."""
    found = reader.fields(
        node, "a budget",
        required=("id", "title", "key", "measure", "limit", "window", "reserve", "then"),
        optional=("at", "when", "soft", "call_max", "mode", "message", "controls"),
    )  # fmt: skip
    if found is None:
        return None
    budget_id = reader.name(found.get("id"), "rule id", ID, ID_FORM)
    title = reader.text(found.get("title"), "title", characters_max=200)
    keys = read_key(reader, found.get("key"))
    measure = reader.word(found.get("measure"), "measure", tuple(UNITS))
    reserve = reader.word(found.get("reserve"), "value of reserve", _RESERVES)
    window_s = reader.duration_s(found.get("window"), "window")
    reader.word(found.get("then"), "effect of a budget", ("deny",))
    mode = reader.word(found.get("mode"), "mode", tuple(Mode))
    message = read_message(reader, found.get("message"))
    controls = reader.texts(found.get("controls"), "controls") if "controls" in found else ()
    points = read_points(reader, found["at"]) if "at" in found else _POINTS.get(measure or "")
    when = read_when(reader, found["when"]) if "when" in found else Scalar("true", *_place(node), style='"')
    if points and not set(points) <= set(BEFORE_POINTS):
        reader.problem(
            found["at"], "a budget after a call: it can no longer be held back", code="wrong-point"
        )
    if measure is None:
        return None
    limit = _amount(reader, found.get("limit"), "limit", measure)
    call_max = _amount(reader, found.get("call_max"), "call_max", measure)
    soft = _share(reader, found.get("soft"))
    if reserve == "max" and measure == "time.s":
        reader.problem(
            found["reserve"], "`reserve: max` for time: how long a call takes cannot be bounded beforehand",
            code="out-of-range", hint="write `reserve: estimate`",
        )  # fmt: skip
        return None
    if reserve == "max" and measure != "calls" and "call_max" not in found:
        reader.problem(
            node, "`reserve: max` needs `call_max`: the most that one call uses", code="missing-field",
            hint="write `call_max:`, and give the model calls a limit of tokens that keeps to it",
        )  # fmt: skip
        return None
    if limit is not None and call_max is not None and call_max > limit:
        reader.problem(
            found["call_max"], "call_max is more than limit: no call could ever run", code="out-of-range"
        )
        return None
    if not (points and when and keys is not None and limit and window_s and reserve):
        return None
    terms = BudgetTerms(
        measure,
        limit,
        window_s,
        reserve,
        1 if measure == "calls" else call_max or 0,
        1.0 if soft is None else soft,
    )
    return RuleDraft(
        id=budget_id or "", title=title or "", points=points, when=when,
        action=Action(
            Effect.DENY, DenialKind.WAIT, limit=terms, key=tuple(name for name, _ in keys)
        ),
        mode=mode, tools=(), tools_node=None, record=RecordMode.ASYNC, agent_message=message or "",
        controls=controls or (), severity="", place=reader.place(node), approver_nodes=(), key_nodes=keys,
    )  # fmt: skip


def _place(node: Node) -> tuple[int, int]:
    """Where a condition that nobody wrote is said to stand."""
    return (node.line, node.column)


def _amount(reader: Reader, node: Node | None, what: str, measure: str) -> int | None:
    """Read an amount of a measure, in its smallest units."""
    if node is None:
        return None
    value = node.value if isinstance(node, Scalar) else None
    is_whole = measure in ("tokens", "calls")
    if is_whole:
        return reader.whole_number(node, what, least=1, most=AMOUNT_MAX)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        says = "a mapping" if isinstance(node, Fields) else getattr(node, "says", "something else")
        reader.problem(node, f"{what}: got {says}, expected a number", code="wrong-type")
        return None
    units = round(value * UNITS[measure])
    if not 0 < value <= AMOUNT_MAX or not units:
        reader.problem(
            node, f"{what}: got {value}, expected more than 0 and at most {AMOUNT_MAX}", code="out-of-range"
        )
        return None
    return units


def _share(reader: Reader, node: Node | None) -> float | None:
    """Read a share of the limit."""
    if node is None:
        return None
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        reader.problem(node, "soft: expected a number", code="wrong-type")
        return None
    if not 0 < value <= 1:
        reader.problem(node, f"soft: got {value}, expected more than 0 and at most 1", code="out-of-range")
        return None
    return float(value)
