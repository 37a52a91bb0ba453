"""Reading the package as text: modules, the imports in them, the rooms they belong to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2] / "agentguard"


class Import(NamedTuple):
    """One import statement: who, what, where."""

    importer: str
    imported: str
    """Dotted name; for `from a import b` it is `a.b`, whatever `b` is."""
    place: str
    """path:line, for a message."""


def modules() -> dict[str, Path]:
    """All modules of the package by dotted name; a package's `__init__` has the package's name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("agentguard", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """The parsed module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports() -> Iterator[Import]:
    """Every import statement of the package, also those inside functions and under TYPE_CHECKING."""
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            place = f"agentguard/{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(name, alias.name, place)
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    raise AssertionError(f"{place}: relative import; imports are written out in this package")
                for alias in node.names:
                    yield Import(name, f"{node.module}.{alias.name}", place)


def room_of(module: str) -> str:
    """The room of a dotted module name; empty for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""
