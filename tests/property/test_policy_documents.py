"""Whatever bytes are loaded: a bundle, or one error with places. Nothing else."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError, PolicyProblem
from agentguard.policy import load_texts
from tests.support.policies import document

GOOD = document(
    "D | tool.before | tool.name == 'a' && args.n > 10 | deny | message: { agent: no }",
    "H | [tool.before, model.before] | run.calls > 3 | { require_approval: { from: [ann], expires: 1h } }",
)
SNIPPETS = st.sampled_from(
    ("{", "}", "[", "]", ": ", "- ", "\n", "\t", "&a ", "*a", "!!x ", "'", '"', "|\n", ">", "# ", "---\n", "...\n", "%YAML 1.1\n",
     "null", "~", "\\", "\x00", "\x85", "\u2028", "\ufeff", "? ", "<<: ", "9" * 400, "-.inf", "\ud7ff", "😀", "é")
)  # fmt: skip


def check(data: str | bytes) -> None:
    """Load, and look at the error."""
    for problem in problems_of(data):
        assert str(problem).isprintable()
        assert problem.line >= 0
        assert problem.column >= 0
        assert problem.excerpt.count("\n") <= 1


def problems_of(data: str | bytes) -> tuple[PolicyProblem, ...]:
    """What the loader says; nothing where it loads."""
    try:
        load_texts({"p.yaml": data})
    except PolicyDocumentError as error:
        return error.problems or (PolicyProblem(path="", line=-1, column=0, text="no problems in the error"),)
    return ()


@settings(max_examples=120)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), SNIPPETS)
@example(0, 0, "\ufeff")
def test_a_policy_with_something_pushed_in(at: int, cut: int, snippet: str) -> None:
    """Any snippet of YAML in any place."""
    check(GOOD[:at] + snippet + GOOD[at + cut :])


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Noise is no policy."""
    check(data)


@settings(max_examples=100)
@given(st.text(max_size=120))
def test_any_condition(when: str) -> None:
    """Whatever stands in `when`, in any style."""
    body = "\n".join(f"      {line}" for line in when.split("\n"))
    check(GOOD.replace("    when: 'run.calls > 3'\n", f"    when: |\n{body}\n"))
    check(document(f"R | tool.before | {when} | deny") if " | " not in when and "\n" not in when else GOOD)
