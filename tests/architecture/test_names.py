"""Doors say what they export, no name stands for two things, and the error tree is drawn as it is."""

from __future__ import annotations

import ast
import importlib

import pytest

import agentguard
from agentguard import errors
from tests.architecture._tree import PACKAGE, modules, room_of, tree

ROOMS = sorted(name for name in modules() if name.count(".") == 1 and (PACKAGE / room_of(name)).is_dir())
DOORS = [name for name in ROOMS if room_of(name) != "cli"]


def _bound_names(module: str) -> set[str]:
    """Public names that a door defines, or imports from the package."""
    bound: set[str] = set()
    for node in tree(modules()[module]).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agentguard"):
            bound.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
    return {name for name in bound if not name.startswith("_")}


@pytest.mark.parametrize("door", DOORS)
def test_doors_export_what_they_say(door: str) -> None:
    """`__all__` has no name that is missing, and no public name is missing in `__all__`."""
    module = importlib.import_module(door)
    exported = module.__all__
    assert len(exported) == len(set(exported))
    assert [name for name in exported if not hasattr(module, name)] == []
    assert _bound_names(door) - set(exported) == set()


def test_no_public_name_is_a_room() -> None:
    """`agentguard.x` is a function or a room, never both."""
    rooms = {room_of(name) for name in modules()}
    assert set(getattr(agentguard, "__all__", ())) & rooms == set()


def test_public_names_resolve() -> None:
    """Everything in `agentguard.__all__` is there."""
    assert [name for name in getattr(agentguard, "__all__", ()) if not hasattr(agentguard, name)] == []


def _drawn_tree() -> list[tuple[int, str]]:
    drawn = []
    for line in (errors.__doc__ or "").splitlines():
        branch, mark, name = line.partition("── ")
        if mark:
            drawn.append(((len(branch) - 5) // 4 + 1, name.strip()))
    return drawn


def _real_tree(cls: type[BaseException] = errors.AgentGuardError, depth: int = 1) -> list[tuple[int, str]]:
    real = []
    for child in cls.__subclasses__():
        if child.__module__ != errors.__name__:
            continue
        others = [base.__name__ for base in child.__bases__ if base is not cls]
        real.append((depth, child.__name__ + (f" ({', '.join(others)})" if others else "")))
        real.extend(_real_tree(child, depth + 1))
    return real


def test_error_tree_is_drawn_as_it_is() -> None:
    """The tree in the docstring of `agentguard.errors` is the tree in the code, in the same order."""
    assert _drawn_tree() == _real_tree()


@pytest.mark.parametrize("door", ["agentguard", *DOORS])
def test_doors_hand_out_errors_of_the_one_tree_only(door: str) -> None:
    """An exception that a room keeps to itself may stand anywhere; one that others can catch stands in the tree."""
    module = importlib.import_module(door)
    exported = [getattr(module, name) for name in getattr(module, "__all__", ())]
    strays = [
        thing.__qualname__
        for thing in exported
        if isinstance(thing, type)
        and issubclass(thing, BaseException)
        and thing.__module__ != errors.__name__
    ]
    assert strays == []
