"""
Run every benchmark of overhead, and write their tables into docs/explanation/overhead.md.

    make bench-all, or python benchmarks/overhead_report.py [--only overhead,stages] [--quick] [--full]

Each benchmark writes between its own markers, `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`; what
stands outside them is written by hand, and stays. With its tables stand the command, the machine, how busy
it was, and every bar with whether it holds. About half an hour; `--quick` takes a few minutes and is
for trying this out, not for figures to be quoted. `--full` measures a store of ten million spans too.
Run it when the machine has nothing else to do (load below 4): the page says so where it had.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overhead_parts import BAR_COLUMNS, bar_rows, busy, clean_environ, parser_of, say, shown

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "explanation" / "overhead.md"
QUICK = {
    "overhead": ["--rounds=3", "--turns=600"],
    "stages": ["--calls=20000"],
    "shapes": ["--rounds=5"],
    "install": ["--rounds=5"],
    "latency": ["--seconds=10", "--calls=200000"],
    "growth": ["--rounds=1", "--calls=4000"],
    "peers": ["--rounds=2", "--turns=300"],
}
STROKES = re.compile(r"#+")


def file_of(name: str) -> Path:
    """The benchmark of this name."""
    return FOLDER / ("overhead.py" if name == "overhead" else f"overhead_{name}.py")


def markdown_of(report: dict[str, Any]) -> str:
    """A report as it stands in the page."""
    machine = report["machine"]
    parts = [
        f"`{report['command']}`. Python {machine['python']}, {machine['system']}; {busy(machine)}.",
    ]
    for table in report["tables"]:
        parts += [f"**{table['title']}**", _table(table["columns"], table["rows"])]
        if table["note"]:
            parts.append(table["note"])
    if report["bars"]:
        parts.append(_table([*BAR_COLUMNS[:-1], "verdict"], bar_rows(report["bars"])))
    return "\n\n".join((*parts, *report["notes"]))


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [list(columns), ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    text = shown(value).replace("|", "\\|")
    return f"`{text}`" if STROKES.fullmatch(text) else text


def put(page: str, name: str, text: str) -> str:
    """
    Replace what stands between the markers of a benchmark.

    Raises:
        SystemExit: The page has no such markers.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        sys.exit(f"{PAGE.name}: no `{begin}` with `{end}` after it")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def main(options: argparse.Namespace) -> None:
    reports = []
    for name in options.only:
        more = QUICK[name] if options.quick else ["--full"] if options.full and name == "growth" else []
        say(f"{file_of(name).name} {' '.join(more)}")
        result = subprocess.run(
            [sys.executable, file_of(name), "--format=json", *more], stdout=subprocess.PIPE, text=True,
            check=False, env=clean_environ(),
        )  # fmt: skip
        if result.returncode:
            sys.exit(
                f"{file_of(name).name}: exit {result.returncode}; the page has what was measured before it"
            )
        report = json.loads(result.stdout)
        report["command"] = " ".join((report["command"], *more))
        reports.append(report)
        # One after the other: what was measured is not lost with what comes later.
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), name, markdown_of(report)), encoding="utf-8")
    missed = [bar for report in reports for bar in report["bars"] if not bar["holds"]]
    if options.format == "json":
        print(json.dumps(reports, indent=1))
    else:
        print(f"{PAGE.name}: written; {sum(len(r['bars']) for r in reports)} bars, {len(missed)} missed")
        for bar in missed:
            print(f"  {bar['what']}: {shown(bar['measured'])}, at most {shown(bar['at_most'])} {bar['unit']}")


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(QUICK),
                        help=f"some of {','.join(QUICK)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few minutes, rough figures")
    parser.add_argument("--full", action="store_true", help="the curve of spans up to ten million")
    return parser.parse_args()


if __name__ == "__main__":
    main(read_options())
