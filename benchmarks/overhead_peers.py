"""
What a governed call costs beside what other libraries take to record one.

    python benchmarks/overhead_peers.py [--rounds 5] [--turns 1000] [--only langfuse,logfire] [--install]

Langfuse, LangSmith, Logfire, Traceloop and OpenInference, each in an environment of its own,
`.venvs/bench-NAME` with what `requirements/bench-NAME.txt` pins; `--install` makes those that are not there
(wheels only, from where pip is set up to look). What cannot be installed or does not run is said, and left out.
Every library sends to a sink on this machine, which answers at once: nothing leaves it.

The turn is that of `overhead.py`: an agent, two model calls with tokens, a tool call. agentguard runs as it
is by default: a hundred rules, decisions chained, spans encrypted on the disk, nothing sent; that is what
the bars are about. A second row is of the same with every span sent to the sink, as they send theirs. They
only record.
Processes take turns; a ratio is one round's, the bare functions taken off both sides; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import overhead
from overhead_parts import Report, arrived, median, parser_of, run_python, say, sink_process

PEERS = ("langfuse", "langsmith", "logfire", "traceloop", "openinference")
BAR = 0.1
OURS = {"governed": "agentguard", "exported": "agentguard, exporting"}
"""Arms of `overhead.py`, and what their rows are called."""
ROOT = Path(__file__).parents[1]
ARMS_FILE = str(Path(__file__).with_name("overhead_peer_arms.py"))


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return ROOT / ".venvs" / f"bench-{peer}" / "bin" / "python"


def install(peer: str) -> str:
    """Make the environment of a peer; returns what went wrong, or nothing."""
    say(f"{peer}: installing requirements/bench-{peer}.txt")
    venv.create(python_of(peer).parents[1], with_pip=True)
    result = subprocess.run(
        [python_of(peer), "-m", "pip", "install", "--only-binary", ":all:", "--no-deps", "--quiet",
         "--disable-pip-version-check", "-r", ROOT / "requirements" / f"bench-{peer}.txt"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return (result.stderr.strip().splitlines() or ["pip failed"])[-1] if result.returncode else ""


def measure(peer: str, sink: str, turns: int) -> dict[str, Any]:
    """Run a peer once; raises SystemExit with what it said where it fails."""
    before = arrived(sink)
    python = sys.executable if peer == "plain" else str(python_of(peer))
    line = run_python(
        [ARMS_FILE, f"--peer={peer}", f"--sink={sink}", f"--turns={turns}"], python=python, timeout_s=330
    )
    found: dict[str, Any] = json.loads(line)
    after = arrived(sink)
    return found | {"at_sink": after["spans"] - before["spans"], "bytes": after["bytes"] - before["bytes"]}


def main(options: argparse.Namespace) -> None:
    report = Report("peers", "python benchmarks/overhead_peers.py")
    peers = list(options.only)
    with sink_process() as sink:
        for peer in list(peers):
            trouble = ""
            if not python_of(peer).exists():
                trouble = install(peer) if options.install else f"no .venvs/bench-{peer}; --install makes it"
            if not trouble:
                try:
                    measure(peer, sink, 20)
                except (SystemExit, subprocess.TimeoutExpired) as error:
                    trouble = f"does not run: {str(error).strip().splitlines()[-1]}"
            if trouble:
                report.notes.append(f"{peer} is left out: {trouble}")
                peers.remove(peer)
        rounds: list[dict[str, dict[str, Any]]] = []
        for number in range(options.rounds):
            rounds.append({peer: measure(peer, sink, options.turns) for peer in ("plain", *peers)})
            rounds[-1] |= {arm: overhead.measure(arm, options.turns, sink) for arm in OURS}
            say(f"round {number + 1} of {options.rounds}")
    sent = (options.turns + overhead.WARM_UP_TURNS) * overhead.CALLS_A_TURN

    def above(round_: dict[str, dict[str, Any]], name: str, figure: str) -> float:
        return float(round_[name][figure] - round_["plain"][figure])

    def ratio(arm: str, peer: str, figure: str) -> float:
        return median([above(round_, arm, figure) / above(round_, peer, figure) for round_ in rounds])

    rows = []
    for name in (*OURS, *peers):
        at_sink = min(round_[name].get("at_sink", 0) for round_ in rounds)
        arrived_there = f"{at_sink:,.0f} of {sent:,}" if at_sink else ""
        if name in peers and not at_sink:
            arrived_there = f"{min(r[name]['bytes'] for r in rounds) / sent:,.0f} bytes each"
        rows.append([
            OURS.get(name) or f"{name} {rounds[0][name]['version']}",
            *(median([above(round_, name, figure) for round_ in rounds]) for figure in ("hot_us", "process_us")),
            *(
                "" if name in OURS else f"{ratio(arm, name, figure):.2f}"
                for arm, figure in (("governed", "hot_us"), ("governed", "process_us"), ("exported", "process_us"))
            ),
            arrived_there,
        ])  # fmt: skip
        if name in peers:
            report.bar(
                f"whole process, agentguard against {name}", ratio("governed", name, "process_us"), BAR, "x"
            )
    report.table(
        f"Other libraries: {options.rounds} rounds of {options.turns} turns, us of CPU a call above the bare functions",
        (
            "library", "hot", "process", "agentguard / it, hot", "agentguard / it, process",
            "exporting / it, process", "at the sink",
        ),
        rows,
        "LangSmith does not speak OTLP to its backend: of what it sends, bytes are counted.",
    )  # fmt: skip
    report.print(options.format)


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument(
        "--turns", type=int, default=1_000, help="of each round, four calls each (default 1000)"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=PEERS, help=f"some of {','.join(PEERS)}"
    )
    parser.add_argument("--install", action="store_true", help="make the environments that are not there")
    return parser.parse_args()


if __name__ == "__main__":
    main(read_options())
