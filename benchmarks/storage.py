"""
What storing costs: every number that the store is held to, measured side by side in one run.

    python benchmarks/storage.py [--spans 14000] [--large 1000000] [--huge 10000000]
                                 [--only append,trace,…] [--format text|json] [--folder DIR] [--write]

Needs an environment with `requirements/bench-storage.txt` (orjson, SQLCipher). Costs are
CPU time of the process, all its threads; a ratio is the median over rounds in which both
sides take turns. Only what several processes or threads do at once is wall time. What runs,
by the name that `--only` takes:

* `append`: finished spans through the writer (columns, features, compression, seal, sync)
  in frames of 100, against the codec floor and against a row a span in SQLCipher; then
  sealing, by the writer and by others, and compaction of the same spans. The floor: orjson, zstd-3 and AES-256-GCM over
  batches of 100 (see `storage_sample.py`). Once more where each span names its
  conversation, so that what was said is sealed for each conversation by itself. Bytes a
  span on disk, live and sealed, and against SQLCipher.
* `trace`: one trace out of `--large` spans, warm.
* `decode`: all spans read back, against SQLCipher; once more with content that is sealed
  for each conversation.
* `features`: one feature over live frames and over sealed blocks, spans a second; memory
  of a process that scans 100,000 spans, and of one that scans `--huge`.
* `grow`: what a write costs with `--huge` spans in the store, against 10,000.
* `processes`: four processes, durable batches of 50 spans, against SQLite in WAL mode.
* `decisions`: 32 threads of decisions that must be durable, counted by the sync.

Progress goes to standard error. `--write` puts the table into docs/explanation/storage.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from storage_bench import Bench, Row
from storage_many import measure_decisions, measure_processes
from storage_reading import measure_decode, measure_features, measure_trace
from storage_rivals import load_sqlcipher
from storage_writing import measure_append, measure_grow

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "storage.md"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"

MEASURES: dict[str, Callable[[Bench], list[Row]]] = {
    "append": measure_append, "trace": measure_trace, "decode": measure_decode, "features": measure_features,
    "grow": measure_grow, "processes": measure_processes, "decisions": measure_decisions,
}  # fmt: skip


# What is made of it ----------------------------------------------------------------


def as_text(rows: Sequence[Row]) -> str:
    """A table for a terminal."""
    lines = []
    for row in rows:
        held = "" if row.is_held is None else "holds" if row.is_held else "MISSED"
        figure = f"{row.figure:,.0f}" if row.figure >= 1000 else f"{row.figure:.2f}"
        lines.append(f"{row.name:66} {figure:>12} {row.unit:15} {row.bar:>12} {held:7} {row.note}".rstrip())
    return "\n".join(lines)


def as_page(rows: Sequence[Row], command: str) -> str:
    """The same as Markdown, with what it was measured on."""
    lines = ["| what | measured | bar | |", "|---|---|---|---|"]
    for row in rows:
        figure = f"{row.figure:,.0f}" if row.figure >= 100 else f"{row.figure:.2f}"
        held = "" if row.is_held is None else "holds" if row.is_held else "**missed**"
        note = f" ({row.note})" if row.note else ""
        lines.append(f"| {row.name} | {figure} {row.unit}{note} | {row.bar} | {held} |")
    lines += [
        "",
        f"Measured with `{command}` on {platform.machine()}, {os.cpu_count()} cores shared with other work, "
        f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=14_000, help="spans a round")
    parser.add_argument("--large", type=int, default=1_000_000, help="spans in the store of `trace`")
    parser.add_argument("--huge", type=int, default=10_000_000, help="spans in that of `features` and `grow`")
    parser.add_argument("--only", default=",".join(MEASURES), help="names, with commas between them")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--folder", help="where stores are made; its file system is what is measured")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        parser.error(f"--only: got `{unknown[0]}`, expected some of {', '.join(MEASURES)}")
    load_sqlcipher()
    bench = Bench(arguments)
    with bench.held:
        rows = [row for name in names for row in MEASURES[name](bench)]
    if arguments.format == "json":
        print(json.dumps([row._asdict() for row in rows], indent=1))
    else:
        print(as_text(rows))
    if arguments.write:
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        table = as_page(rows, " ".join(["python", "benchmarks/storage.py", *sys.argv[1:]]))
        PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
