"""`agentguard policy schema` and `init`: what writes documents."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentguard.cli._common import FINE, emit, emit_document, fail, note
from agentguard.cli.policy._shared import format_option, import_module
from agentguard.errors import PolicyDocumentError
from agentguard.values import FACTS

if TYPE_CHECKING:
    from agentguard.policy import Arguments

MCP_CHARACTERS_MAX = 8 << 20
"""Size of one document of MCP schemas."""


@click.command()
@click.option(
    "--from", "module", metavar="MODULE", help="Write a ToolSchema of the tools that MODULE decorates."
)
@click.option(
    "--from-mcp",
    "mcp_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write a ToolSchema of the answer to `tools/list` of an MCP server; - reads standard input.",
)
@format_option("text", "json", "json-schema")
def schema(module: str | None, mcp_file: Path | None, output_format: str) -> int:
    """
    Print the facts that conditions may read, the JSON Schema of policy files, or a ToolSchema.

    With --from the module is imported, as the application would import it.
    """
    from agentguard.policy import json_schema

    if module is not None and mcp_file is not None:
        raise click.UsageError("--from and --from-mcp exclude one another")
    if module is not None:
        return _schema_of_module(module)
    if mcp_file is not None:
        return _schema_of_mcp(mcp_file)
    if output_format == "json-schema":
        emit_document(json_schema())
        return FINE
    rows = [
        {
            "fact": spec.name,
            "type": spec.type,
            "trusted": "yes" if spec.is_trusted else "model-supplied",
            "points": ", ".join(spec.points) or "all",
            "missing": spec.missing,
            "description": spec.description + (f" Unit: {spec.unit}." if spec.unit else ""),
        }
        for spec in FACTS.values()
    ]
    emit(
        rows,
        columns=("fact", "type", "trusted", "points", "missing", "description"),
        output_format=output_format,
    )
    return FINE


def _schema_of_module(module: str) -> int:
    """Import a module and write the types of its tools."""
    from agentguard.policy import disagreement, write_tool_schema
    from agentguard.runtime import decorated_tools

    import_module(module)
    try:
        found = decorated_tools(module)
    except ValueError as error:
        fail(PolicyDocumentError(f"module `{module[:80]}`: {error}"))
    if not found:
        fail(
            PolicyDocumentError(f"module `{module[:80]}` decorates no tool").hint(
                "name the module that has `@agentguard.tool`"
            )
        )
    tools: dict[str, Arguments] = {}
    for tool in found:
        if tool.name in tools and disagreement(tools[tool.name].types, tool.arguments):
            fail(PolicyDocumentError(f"tool `{tool.name}` is decorated twice, with different arguments"))
        tools[tool.name] = tool.arguments
        if tool.arguments.is_open:
            note(
                f"note: tool {tool.name} takes any keyword: rules can only read the arguments that are listed"
            )
    click.echo(write_tool_schema(_file_word(module), tools), nl=False)
    return FINE


def _schema_of_mcp(file: Path) -> int:
    """Read the tools of an MCP server and write the types of their arguments."""
    from agentguard.policy import tools_from_mcp, write_tool_schema

    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            text = stream.read(MCP_CHARACTERS_MAX + 1)
        if len(text) > MCP_CHARACTERS_MAX:
            raise ValueError(f"more than {MCP_CHARACTERS_MAX} characters")
        tools = tools_from_mcp(json.loads(text))
    except (OSError, ValueError, RecursionError) as error:
        fail(PolicyDocumentError(f"{file}: {error}"))
    click.echo(write_tool_schema("mcp" if str(file) == "-" else _file_word(file.stem), tools), nl=False)
    return FINE


def _file_word(text: str) -> str:
    """A name as `metadata.name` has it."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:90] or "tools"


@click.command()
@click.option("--template", help="Name of a starter policy; without it they are listed.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path("policies"))
def init(template: str | None, folder: Path) -> int:
    """Copy a starter policy and its tests into FOLDER (./policies)."""
    templates = _templates()
    if template is None:
        rows = [{"template": name, "title": _title_of(files[0])} for name, files in templates.items()]
        emit(rows, columns=("template", "title"))
        note("agentguard policy init --template NAME copies one")
        return FINE
    if template not in templates:
        from difflib import get_close_matches

        near = get_close_matches(template, list(templates), n=1)
        error = PolicyDocumentError(f"unknown template `{template[:80]}`")
        fail(error.hint(f"did you mean `{near[0]}`?" if near else "one of " + ", ".join(templates)))
    targets = [folder / source.name for source in templates[template]]
    for target in targets:
        if target.exists():
            fail(
                PolicyDocumentError(f"{target}: is there already").hint(
                    "move it away first, nothing is overwritten"
                )
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in zip(templates[template], targets, strict=True):
            shutil.copyfile(source, target)
            note(f"made {target}")
    except OSError as error:
        fail(PolicyDocumentError(f"{folder}: cannot be written: {error.strerror}"))
    return FINE


def _templates() -> dict[str, list[Path]]:
    """Starter policies by name: the policy, then its tests."""
    from agentguard.cli.init import starter_folder

    found: dict[str, list[Path]] = {}
    for file in sorted(starter_folder().rglob("*.yaml")):
        if not file.name.endswith(".test.yaml"):
            tests = file.with_name(f"{file.stem}.test.yaml")
            found[file.stem] = [file, tests] if tests.exists() else [file]
    return found


def _title_of(file: Path) -> str:
    """The title of a starter policy, as it loads."""
    from agentguard.policy import load_bundle

    return load_bundle([file]).policies[0].title
