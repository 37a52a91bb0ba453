"""The table of names, its reference page, and what is emitted say the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from agentguard.values import attributes
from agentguard.values.attribute_table import ATTRIBUTES
from agentguard.values.attributes import KIND_OPERATION, OPERATIONS, PROFILES, operation_spec, span_name
from agentguard.values.metric_names import METRICS


def constants() -> dict[str, str]:
    """All names that the module of names defines, without events and plain values."""
    not_attributes = ("EVENT_", "OUTCOME_", "ERROR_OTHER", "LABEL_PREFIX", "USAGE_PREFIX")
    return {
        name: value
        for name, value in vars(attributes).items()
        if name.isupper() and isinstance(value, str) and not name.startswith(not_attributes)
    }


def test_the_page_is_that_of_the_code(repository: Path) -> None:
    """docs/reference/attributes.md and metrics.md are what the script writes."""
    spec = importlib.util.spec_from_file_location(
        "generate_attributes", repository / "docs/generate_attributes.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, make in module.PAGES.items():
        assert path.read_text(encoding="utf-8") == make()


def test_every_name_is_in_the_table() -> None:
    """No name is without meaning, and no row without a name."""
    assert sorted(constants().values()) == sorted(ATTRIBUTES)


def test_names_are_unique() -> None:
    """No two names of an attribute are equal; no metric is listed twice."""
    values = list(constants().values())
    assert len(values) == len(set(values))
    metrics = [metric.name for metric in METRICS]
    assert len(metrics) == len(set(metrics))


def test_no_module_writes_names_by_hand(repository: Path) -> None:
    """The names of the conventions stand in the module of names only."""
    allowed = {"values/attributes.py", "values/metric_names.py", "values/attribute_table.py"}
    package = repository / "agentguard"
    found = [
        str(path.relative_to(package))
        for path in (package / "capture").rglob("*.py")
        if str(path.relative_to(package)) not in allowed and '"gen_ai.' in path.read_text(encoding="utf-8")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("kind", "operation", "expected"),
    [
        ("tool", "", ("execute_tool", "tool", "internal")),
        ("agent", "", ("invoke_agent", "agent", "internal")),
        ("model", "", ("chat", "model", "client")),
        ("model", "text_completion", ("text_completion", "model", "client")),
        ("model", "rerank", ("rerank", "model", "client")),
        ("retriever", "", ("retrieval", "retriever", "client")),
        ("workflow", "", ("invoke_workflow", "workflow", "internal")),
        ("summarise", "", ("summarise", "summarise", "internal")),
    ],
)
def test_operations(kind: str, operation: str, expected: tuple[str, str, str]) -> None:
    """Each kind has its operation and role; unknown ones are internal."""
    assert operation_spec(kind, operation)[:3] == expected


def test_kinds_point_to_operations() -> None:
    """Every kind names an operation of the table, which names an attribute of the table."""
    assert set(KIND_OPERATION.values()) <= set(OPERATIONS)
    assert {spec.subject for spec in OPERATIONS.values()} - {""} <= set(ATTRIBUTES)


def test_span_names() -> None:
    """Operation and subject, or the operation alone."""
    assert span_name("chat", "gpt-5") == "chat gpt-5"
    assert span_name("chat") == "chat"


def test_both_is_the_union() -> None:
    """What a profile has, `both` has."""
    for spec in ATTRIBUTES.values():
        assert "both" in spec.profiles
        assert set(spec.profiles) <= set(PROFILES)
    assert all("both" in metric.profiles for metric in METRICS)
