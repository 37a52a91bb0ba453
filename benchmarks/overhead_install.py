"""
What agentguard costs to have: to install, to import, to start.

    python benchmarks/overhead_install.py [--rounds 15] [--only import,install]

import   CPU of `import agentguard` beside `import opentelemetry.trace, asyncio, dataclasses`,
         fresh processes that take turns; the ratio is the median of those of the rounds.
install  the distributions that the base install brings, and what of them is loaded, with sizes, at
         `import agentguard`, at `init()`, with policies, and with an export.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from overhead_parts import Report, ask, median, parser_of, refund, run_arm, run_python, say, start_governed

PARTS = ("import", "install")
IMPORT_BAR, DISTRIBUTIONS_BAR = 1.3, 45

IMPORTS = {
    "agentguard": "import agentguard",
    "beside": "import opentelemetry.trace, asyncio, dataclasses",
}
TIMED = "import time; began = time.process_time_ns(); {}; print((time.process_time_ns() - began) / 1e6)"


def report_import(report: Report, options: argparse.Namespace) -> None:
    """Import time, fresh processes by turns."""
    pairs = []
    for number in range(options.rounds + 1):
        pair = [float(run_python(["-c", TIMED.format(line)])) for line in IMPORTS.values()]
        if number:  # The first may have compiled.
            pairs.append(pair)
    say("import: measured")
    ours, theirs = (median([pair[place] for pair in pairs]) for place in (0, 1))
    report.table(
        "Import, CPU",
        ("what", "ms"),
        [[f"`{IMPORTS['agentguard']}`", ours], [f"`{IMPORTS['beside']}`", theirs]],
    )
    report.bar(
        "import, against OpenTelemetry's API", median([one / two for one, two in pairs]), IMPORT_BAR, "x"
    )


# What is installed, and what of it is loaded ----------------------------------


def base_distributions() -> list[str]:
    """Names of all distributions that the base install brings, agentguard's own left out."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, None] = {}
    waiting = [("agentguard", frozenset[str]())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        for line in metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or any(
                wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                key = canonicalize_name(wanted.name)
                found[key] = None
                item = (key, frozenset(wanted.extras))
                if item not in seen:
                    seen.add(item)
                    waiting.append(item)
    return sorted(found)


def size_mb(name: str) -> float:
    """Megabytes of a distribution's files."""
    files = metadata.files(name) or ()
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file()) / 1e6


def loaded_arm(options: argparse.Namespace) -> dict[str, Any]:
    """Load agentguard up to one state, make a call, and say what is in memory."""
    before = rss_mb()
    import agentguard

    if options.state != "import":
        with tempfile.TemporaryDirectory() as folder:
            start_governed(
                Path(folder),
                rules=0 if options.state == "init" else 100,
                export="http://127.0.0.1:9" if options.state == "export" else None,
                flush_timeout_s=0.2,
            )
            agentguard.tool(effect="write", name="refund")(refund)("o-17", amount_usd=12.5)
            agentguard.model(provider="openai", model="gpt-5")(ask)("?")
            if options.state == "export":
                agentguard.flush(0.5)
                time.sleep(3)  # The exporter loads what it needs when it first sends.
            more = rss_mb() - before
            loaded = loaded_distributions()
            agentguard.shutdown(0.2)
    else:
        more, loaded = rss_mb() - before, loaded_distributions()
    return {"rss_mb": more, "loaded": loaded}


def rss_mb() -> float:
    """Megabytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def loaded_distributions() -> dict[str, float]:
    """Distributions with a module in memory, and the megabytes of those modules' files."""
    owners = metadata.packages_distributions()
    found: dict[str, float] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        parts = name.split(".")
        # A namespace shared by several distributions belongs to whoever has the file.
        names = owners.get(parts[0], [])
        if file is None or not names:
            continue
        owner = names[0] if len(set(names)) == 1 else _owner_of(Path(file), tuple(sorted(set(names))))
        found[owner] = found.get(owner, 0.0) + Path(file).stat().st_size / 1e6
    return found


_files: dict[str, set[str]] = {}


def _owner_of(file: Path, names: tuple[str, ...]) -> str:
    for name in names:
        if name not in _files:
            _files[name] = {str(f.locate()) for f in metadata.files(name) or ()}
        if str(file) in _files[name]:
            return name
    return names[0]


STATES = {
    "import": "import agentguard", "init": "init(), one call", "policies": "init(policies=…), one call",
    "export": "the same, exporting",
}  # fmt: skip


def report_install(report: Report, _: argparse.Namespace) -> None:
    """What is installed, and what is loaded when."""
    names = base_distributions()
    sizes = {name: size_mb(name) for name in names}
    heavy = sorted(sizes, key=lambda name: -sizes[name])[:6]
    whole = sum(sizes.values())
    report.table(
        "The base install",
        ("what", "MB"),
        [[f"{len(names)} distributions", whole], *([name, sizes[name]] for name in heavy)],
    )
    report.bar("distributions of the base install", len(names), DISTRIBUTIONS_BAR, "")
    rows, unwanted = [], set()
    for state, title in STATES.items():
        found = run_arm(__file__, "loaded", state=state)
        loaded = {name: mb for name, mb in found["loaded"].items() if name != "agentguard"}
        rows.append([
            title, len(loaded), sum(loaded.values()), found["rss_mb"],
            ", ".join(f"{name} {mb:.1f}" for name, mb in sorted(loaded.items(), key=lambda i: -i[1]) if mb >= 0.05),
        ])  # fmt: skip
        unwanted |= {"numpy", "scipy", "grpcio"} & set(loaded)
        say(f"install: {title}")
    report.table(
        "What is loaded",
        ("after", "distributions", "MB of files", "MB of memory", "of which (MB of files)"),
        rows,
    )
    report.bar("numpy, scipy and grpc loaded by any of these", len(unwanted), 0, "")


def main(options: argparse.Namespace) -> None:
    report = Report("install", "python benchmarks/overhead_install.py")
    for part in PARTS:
        if part in options.only:
            globals()[f"report_{part}"](report, options)
    report.print(options.format)


def read_options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="of the imports (default 15)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=PARTS, help=f"some of {','.join(PARTS)}"
    )
    parser.add_argument("--state", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = read_options()
    if given.arm:
        print(json.dumps(loaded_arm(given)))
    else:
        main(given)
