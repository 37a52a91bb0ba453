"""
The node kinds that generated functions are built of, each with its place.

`compile` asks every expression and statement for a line. Those of a condition
all stand in the same one, so the classes have it, and nobody walks the tree to
write it into each node. Operators and contexts need none: they are those of
`ast`.
"""

# ruff: noqa: D101 - each class is the one of `ast` of the same name (`arg` is spelt out).

from __future__ import annotations

import ast
from typing import Final

LOAD: Final = ast.Load()
STORE: Final = ast.Store()


class Assign(ast.Assign):
    lineno = 1
    col_offset = 0


class Attribute(ast.Attribute):
    lineno = 1
    col_offset = 0


class BinOp(ast.BinOp):
    lineno = 1
    col_offset = 0


class BoolOp(ast.BoolOp):
    lineno = 1
    col_offset = 0


class Call(ast.Call):
    lineno = 1
    col_offset = 0


class Compare(ast.Compare):
    lineno = 1
    col_offset = 0


class Constant(ast.Constant):
    lineno = 1
    col_offset = 0


class ExceptHandler(ast.ExceptHandler):
    lineno = 1
    col_offset = 0


class FunctionDef(ast.FunctionDef):
    lineno = 1
    col_offset = 0


class IfExp(ast.IfExp):
    lineno = 1
    col_offset = 0


class Lambda(ast.Lambda):
    lineno = 1
    col_offset = 0


class List(ast.List):
    lineno = 1
    col_offset = 0


class Name(ast.Name):
    lineno = 1
    col_offset = 0


class NamedExpr(ast.NamedExpr):
    lineno = 1
    col_offset = 0


class Return(ast.Return):
    lineno = 1
    col_offset = 0


class Subscript(ast.Subscript):
    lineno = 1
    col_offset = 0


class Try(ast.Try):
    lineno = 1
    col_offset = 0


class Tuple(ast.Tuple):
    lineno = 1
    col_offset = 0


class UnaryOp(ast.UnaryOp):
    lineno = 1
    col_offset = 0


class Argument(ast.arg):
    lineno = 1
    col_offset = 0
