"""
Review: what people ask who answer for a policy.

Takes bundles, test cases and recorded calls; gives reports: do the tests hold,
what does one call get, what would a candidate have blocked. Decides nothing
that runs.
"""

from agentguard.review._bench import RuleCost, bench
from agentguard.review._evaluate import CALL_BYTES_MAX, Evaluation, evaluate, read_call
from agentguard.review._explain import Explanation, RuleChange, explain_decision
from agentguard.review._formats import Case, Notice, github, junit, sarif
from agentguard.review._given import NEUTRAL, GivenFacts
from agentguard.review._mutation import MutationReport, RuleCoverage, coverage, mutate
from agentguard.review._past import Past, read_past
from agentguard.review._replay import RecordedCall, Replayed, ReplayReport, replay
from agentguard.review._run_tests import CaseResult, TestReport, run_tests
from agentguard.review._simulate import Replay, warm_up_s

__all__ = [
    "CALL_BYTES_MAX",
    "NEUTRAL",
    "Case",
    "CaseResult",
    "Evaluation",
    "Explanation",
    "GivenFacts",
    "MutationReport",
    "Notice",
    "Past",
    "RecordedCall",
    "Replay",
    "ReplayReport",
    "Replayed",
    "RuleChange",
    "RuleCost",
    "RuleCoverage",
    "TestReport",
    "bench",
    "coverage",
    "evaluate",
    "explain_decision",
    "github",
    "junit",
    "mutate",
    "read_call",
    "read_past",
    "replay",
    "run_tests",
    "sarif",
    "warm_up_s",
]
