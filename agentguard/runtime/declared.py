"""
Whether a decorated tool is the one that its ToolSchema describes.

Conditions were checked against the declared arguments; where the function takes
others, rules would judge what it does not do. Such a tool is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agentguard.runtime.declaration import DECLARATIONS
from agentguard.runtime.spec import CallSpec, spec_of

if TYPE_CHECKING:
    # Only the types: without policies neither YAML nor pydantic is loaded.
    from agentguard.policy import Arguments, Bundle

SPECS_MAX = 4_096
"""Callables whose answer is remembered; then the memory starts anew."""


class DeclaredTools:
    """
    The declared tools of one bundle, compared with each callable once.

    Args:
        bundle:
            What is in force; None: nothing is declared.
    """

    __slots__ = ("_found", "_tools")

    def __init__(self, bundle: Bundle | None) -> None:
        is_enforced = bundle is not None and any(policy.mode == "enforce" for policy in bundle.policies)
        self._tools = bundle.tool_schemas if bundle is not None and is_enforced else {}
        self._found: dict[CallSpec, str] = {}

    def refusal(self, spec: CallSpec) -> str:
        """
        Say why a tool cannot be judged by the rules that were checked for it.

        Args:
            spec:
                The decorated callable.

        Returns:
            One sentence for the reviewer; empty where the tool is as declared, or not declared.
        """
        declared = self._tools.get(spec.name)
        if declared is None or spec.governed_as != "tool":
            return ""
        found = self._found.get(spec)
        if found is None:
            # Imported here: pydantic is loaded only where a declared tool is called.
            from agentguard.policy import arguments_of, disagreement

            try:
                found = disagreement(declared, arguments_of(spec.function, skip=spec.binder.skip))
            except ValueError:
                found = "the function has no signature to compare with its ToolSchema"
            if len(self._found) >= SPECS_MAX:
                self._found.clear()
            self._found[spec] = f"tool {spec.name}: {found}" if found else ""
        return self._found[spec]


class DecoratedTool(NamedTuple):
    """One tool of a module."""

    name: str
    module: str
    arguments: Arguments


def decorated_tools(module: str) -> list[DecoratedTool]:
    """
    List the tools that a module, or a package and what it loaded, decorates.

    Args:
        module:
            Its name; it is imported already.

    Returns:
        In order of their names; one name may stand more than once.

    Raises:
        ValueError: A tool has no signature.
    """
    # Imported here, as above.
    from agentguard.policy import arguments_of

    found = []
    for declaration in list(DECLARATIONS):
        spec = spec_of(declaration)
        where = getattr(spec.function, "__module__", "") or ""
        if spec.governed_as == "tool" and (where == module or where.startswith(f"{module}.")):
            found.append(DecoratedTool(spec.name, where, arguments_of(spec.function, skip=spec.binder.skip)))
    return sorted(found, key=lambda tool: (tool.name, tool.module))
