"""What is emitted is what the golden files say, in every profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentguard.values.attribute_table import ATTRIBUTES
from agentguard.values.attributes import PROFILES, SEMCONV_VERSION, Profile
from tests.golden.generate import FOLDER, differences, files
from tests.golden.scenarios import OPERATIONS, WAYS


def test_what_is_emitted_is_what_the_files_say(tmp_path: Path) -> None:
    """One generator writes the files and verifies them: `python -m tests.golden.generate`."""
    assert differences(files(tmp_path)) == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_operation_ends_in_every_way(profile: Profile) -> None:
    """No scenario is missing from the files."""
    emitted = _spans(profile)
    assert set(emitted) == {f"{o} {w}" for o in OPERATIONS for w in WAYS} | {"nested"}
    assert all(len(spans) == 1 for name, spans in emitted.items() if name != "nested")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_span_says_which_conventions_it_follows(profile: Profile) -> None:
    """The version stands on the span, and only names of that profile do."""
    for spans in _spans(profile).values():
        for span in spans:
            assert span["attributes"]["agentguard.semconv"] == SEMCONV_VERSION[profile]
            for name in span["attributes"]:
                if not name.startswith("agentguard.label."):
                    assert profile in ATTRIBUTES[name].profiles


def test_both_is_the_union_of_what_is_emitted() -> None:
    """Each span of `both` has what `compat` and `latest` have."""
    emitted = {profile: _spans(profile) for profile in PROFILES}
    for name, spans in emitted["both"].items():
        for number, span in enumerate(spans):
            union = (
                emitted["compat"][name][number]["attributes"] | emitted["latest"][name][number]["attributes"]
            )
            assert set(span["attributes"]) == set(union)


@pytest.mark.parametrize("profile", PROFILES)
def test_no_message_of_an_exception_is_kept(profile: Profile) -> None:
    """The scenarios raise texts with a card number in them."""
    assert "4111" not in json.dumps(_spans(profile))


def _spans(profile: Profile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"spans-{profile}.json").read_text(encoding="utf-8"))
    return found
