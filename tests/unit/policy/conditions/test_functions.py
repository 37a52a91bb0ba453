"""`glob`, `cidr`, and the text of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentguard.errors import PolicyDocumentError, PolicyEvaluationError
from agentguard.policy.conditions import Condition

SCHEMA = {"s": "string", "d": "double", "x": "dyn"}


@pytest.mark.parametrize(
    ("text", "pattern", "fits"),
    [
        ("finance-1", "finance-*", True), ("ops-finance-1", "finance-*", False), ("a/b", "*", False), ("a/b", "**", True), ("/etc/ssh/x", "/etc/**", True),
        ("/etc", "/etc/**", False), ("a/b/c.txt", "a/*/c.txt", True), ("abc", "a?c", True), ("a/c", "a?c", False), ("b", "[a-c]", True), ("d", "[!a-c]", True),
        ("/", "[!a]", False), ("-", "[a-]", True), ("*", "\\*", True), ("x", "\\*", False), ("", "*", True), ("", "", True), ("a\nb", "a*b", True), ("a.b", "a.b", True),
        ("axb", "a.b", False), ("é😀", "??", True), ("(a)", "(a)", True), ("a", "a\n", False),
    ],
)  # fmt: skip
def test_glob(text: str, pattern: str, fits: bool) -> None:
    """The whole text fits; stars of one kind stop at slashes."""
    source = "glob(s, '" + pattern.replace("\\", "\\\\").replace("\n", "\\n") + "')"
    assert Condition.compile(source, SCHEMA).evaluate({"s": text}) is fits


@pytest.mark.parametrize("pattern", ["[a", "[z-a]", "*" * 1 + "a" * 3_000])
def test_glob_that_is_none(pattern: str) -> None:
    """An open set, a backward range, a pattern that is too large."""
    with pytest.raises(PolicyDocumentError):
        Condition.compile(f"glob(s, '{pattern}')", SCHEMA)


@pytest.mark.parametrize(
    ("address", "network", "inside"),
    [
        ("10.1.2.3", "10.0.0.0/8", True), ("11.1.2.3", "10.0.0.0/8", False), ("::ffff:10.1.2.3", "10.0.0.0/8", True), ("fd00::1", "fd00::/8", True),
        ("10.1.2.3", "fd00::/8", False), ("127.0.0.1", "127.0.0.1/32", True), ("127.0.0.1", "0.0.0.0/0", True),
    ],
)  # fmt: skip
def test_cidr(address: str, network: str, inside: bool) -> None:
    """Addresses of both versions, and IPv4 mapped into IPv6."""
    assert Condition.compile(f"cidr(s, '{network}')", SCHEMA).evaluate({"s": address}) is inside


@pytest.mark.parametrize(
    "address", ["", "localhost", "10.1", "010.1.1.1", "1.2.3.4.5", "fe80::1%eth0", "0x7f000001", "10.0.0.1 "]
)
def test_cidr_of_no_address_is_an_error(address: str) -> None:
    """Names and spellings that other software reads as addresses are refused, not answered."""
    with pytest.raises(PolicyEvaluationError, match="no IP address"):
        Condition.compile("cidr(s, '10.0.0.0/8')", SCHEMA).evaluate({"s": address})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_text_of_a_double_reads_back(value: float) -> None:
    """`double(string(d))` is `d`, for every finite double."""
    found = Condition.compile("double(string(d))", SCHEMA).evaluate({"d": value})
    assert found == value


@given(st.text(max_size=30))
def test_sizes_and_cases(text: str) -> None:
    """Characters are counted by code point; only ASCII letters change case."""
    found = Condition.compile(
        "size(x.lowerAscii()) == size(x) && x.upperAscii().lowerAscii() == x.lowerAscii()", SCHEMA
    )
    assert found.evaluate({"x": text}) is True
