"""Play the demo: set the stage, play the scenes, show the exhibits, print the table."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

import agentguard
from agentguard.cli._common import emit_document
from agentguard.cli.demo.arms import ControlArms
from agentguard.cli.demo.exhibits import EXHIBITS
from agentguard.cli.demo.findings import Exhibit, Finding
from agentguard.cli.demo.page import COLUMNS_MAX, Page
from agentguard.cli.demo.scenes import SCENES
from agentguard.cli.demo.stage import Stage, open_stage

_OWN_AGENT = (
    ("pip install agentguard", ""),
    ("agentguard init", "makes key, store, starter policies; then decorate"),
    ("agentguard doctor", "says what is set up and what is not"),
)


def play(folder: Path, *, is_kept: bool, output_format: str, model: str) -> bool:
    """
    Play everything once.

    Args:
        folder:
            An empty folder for store, key and policies.
        is_kept:
            Whether the folder outlives the demo.
        output_format:
            text or json.
        model:
            scripted or smollm2.

    Returns:
        Whether all six were caught and everything beside them came out as promised.

    Raises:
        MissingPackagesError: A package that only the demo uses is not installed.
    """
    is_text = output_format == "text"
    # With json, standard output is one document: what happens meanwhile goes nowhere.
    page = Page(_console() if is_text else Console(quiet=True))
    began = time.monotonic()
    with ControlArms() as arms, open_stage(folder, model) as stage:
        _open(page, stage)
        findings = []
        for number, (what, scene) in enumerate(SCENES, 1):
            with page.working(f"{number} of {len(SCENES)}: {what}"):
                finding = scene(stage)
            findings.append(finding)
            page.scene(number, finding)
            if number == 1:
                # Not before: the first scene measures latencies, and wants the machine for itself.
                arms.start()
        exhibits = []
        for what, show in EXHIBITS:
            with page.working(what):
                exhibit = show(stage, arms)
            exhibits.append(exhibit)
            page.exhibit(exhibit)
    seconds = time.monotonic() - began
    _close(page, findings, seconds, folder, is_kept)
    if not is_text:
        emit_document(_document(findings, exhibits, seconds, folder if is_kept else None, model))
    return all(finding.caught for finding in findings) and all(exhibit.is_as_promised for exhibit in exhibits)


def _console() -> Console:
    """Make a console on standard output: as wide as the terminal, or 80 columns in a file."""
    is_terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=True, width=None if is_terminal else COLUMNS_MAX)


def _open(page: Page, stage: Stage) -> None:
    speaker = "a real model of 135 million parameters" if stage.is_real else "a scripted model"
    page.opening(
        f"agentguard {agentguard.__version__} demo: six ways an agent dies",
        f"A support agent made with the openai SDK {version('openai')} talks to {speaker} on loopback. "
        f"Each of its calls passes agentguard: {stage.rules} rules are in force, and a store is sealed with a "
        "key made a moment ago. The same agent without agentguard runs beside it. Every figure is measured "
        "now, on this machine, and nothing leaves it.",
    )


def _close(page: Page, findings: Sequence[Finding], seconds: float, folder: Path, is_kept: bool) -> None:
    caught = sum(finding.caught for finding in findings)
    page.closing(findings, f"{caught} of {len(findings)} caught in {seconds:.0f} s.")
    if is_kept:
        page.sentence(f"Everything is kept in {folder}: go there, and the commands above work.")
    else:
        page.sentence(
            "The store is gone again. With --keep DIR it stays, and the commands above work in DIR."
        )
    page.steps("The same for your own agent:", _OWN_AGENT)


def _document(
    findings: Sequence[Finding], exhibits: Sequence[Exhibit], seconds: float, kept: Path | None, model: str
) -> dict[str, object]:
    return {
        "version": agentguard.__version__,
        "model": model,
        "caught": sum(finding.caught for finding in findings),
        "of": len(findings),
        "seconds": round(seconds, 3),
        "kept": str(kept) if kept else None,
        "scenes": [dataclasses.asdict(finding) for finding in findings],
        "exhibits": [dataclasses.asdict(exhibit) for exhibit in exhibits],
        "next": [command for command, _ in _OWN_AGENT],
    }
