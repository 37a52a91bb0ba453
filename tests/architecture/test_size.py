"""One idea a file: files and functions stay short."""

from __future__ import annotations

import ast

from tests.architecture._tree import PACKAGE, modules, tree

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 80


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def test_files_are_short() -> None:
    """No file of the package has more lines than can be read in one sitting."""
    long = {}
    for path in modules().values():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > FILE_LINES_MAX:
            long[str(path.relative_to(PACKAGE))] = lines
    assert long == {}


def test_functions_are_short() -> None:
    """No function has more lines than fit a screen, its docstring not counted."""
    long = {}
    for name, path in modules().items():
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
                if lines > FUNCTION_LINES_MAX:
                    long[f"{name}.{node.name}"] = lines
    assert long == {}
