"""Find the files, read all documents, and make one bundle of them or one error."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agentguard.policy._bundle import Bundle
from agentguard.policy._compile import compile_policy, join_tool_schemas
from agentguard.policy._exception_reader import exceptions_agree, read_exception
from agentguard.policy._fallbacks import fallbacks_agree
from agentguard.policy._lock import check_signed
from agentguard.policy._model import API_VERSION, Approvers, Policy, PolicyException, PolicyTest, ToolSchema
from agentguard.policy._nodes import Fields, Node, Scalar
from agentguard.policy._other_readers import read_approvers, read_policy_test, read_tool_schema
from agentguard.policy._policy_reader import PolicyDraft, read_policy
from agentguard.policy._problems import Problems, Source, did_you_mean, quoted
from agentguard.policy._reader import Reader
from agentguard.policy._yaml import DOCUMENT_BYTES_MAX, decode, parse
from agentguard.values import FACTS, FactSpec, Verifier

FILES_MAX = 2_000
"""Files of one bundle."""

BYTES_MAX = 32 << 20
"""Bytes of all files of one bundle."""

_KINDS = ("Policy", "PolicyTest", "Approvers", "ToolSchema", "Exception")


def load_bundle(
    paths: Sequence[str | Path], *, extra_facts: Iterable[FactSpec] = (), verifier: Verifier | None = None
) -> Bundle:
    """
    Load policy documents, all or none.

    Folders are read with all their subfolders: every `*.yaml` and `*.yml`,
    hidden names left out. One mistake anywhere refuses the whole load, and
    every mistake of every file is in the one exception.

    Args:
        paths:
            Files and folders, at least one.
        extra_facts:
            Facts that the application registers, beside the catalogue.
        verifier:
            Where given, only folders load whose lock is signed by one of its keys, and which are as
            they were signed.

    Returns:
        The bundle.

    Raises:
        PolicyDocumentError: There is no policy, or anything in the files is not right, or not as it
            was signed.
    """
    facts = {**FACTS, **{spec.name: spec for spec in extra_facts}}
    problems = Problems()
    files = _files([Path(path) for path in paths], problems)
    sources = []
    total = 0
    for path in files:
        data = _read(path, problems)
        if data is None:
            continue
        total += len(data)
        if total > BYTES_MAX:
            problems.add(
                Source(str(path)),
                0,
                0,
                f"all files together have more than {BYTES_MAX} bytes",
                code="file-too-large",
            )
            break
        sources.append((str(path), data))
    serials: dict[str, int] = {}
    if verifier is not None and not problems.count:
        # The signature first: what nobody answers for is not even parsed.
        serials = check_signed([Path(path) for path in paths], sources, verifier)
    return replace(_assemble(sources, facts, problems, named=[str(path) for path in paths]), serials=serials)


def load_texts(texts: Mapping[str, str | bytes], *, extra_facts: Iterable[FactSpec] = ()) -> Bundle:
    """
    Load documents that are already in memory; otherwise as `load_bundle`.

    Args:
        texts:
            Content by the name that messages show.
        extra_facts:
            Facts that the application registers, beside the catalogue.

    Returns:
        The bundle.

    Raises:
        PolicyDocumentError: There is no policy, or anything in the texts is not right.
    """
    facts = {**FACTS, **{spec.name: spec for spec in extra_facts}}
    sources = [(name, text.encode() if isinstance(text, str) else text) for name, text in texts.items()]
    return _assemble(sources, facts, Problems(), named=list(texts))


def policy_files(paths: Sequence[str | Path]) -> list[Path]:
    """
    List the files that `load_bundle` would read.

    Args:
        paths:
            Files and folders.

    Returns:
        Each file once, in the order in which it is read.

    Raises:
        PolicyDocumentError: One of them cannot be listed, or a folder holds none.
    """
    problems = Problems()
    found = _files([Path(path) for path in paths], problems)
    if problems.count:
        raise problems.error()
    return found


def _files(paths: Sequence[Path], problems: Problems) -> list[Path]:
    """List the files to read, each once, in a stable order."""
    found: dict[str, Path] = {}
    if not paths:
        problems.add(Source("policies"), 0, 0, "no file or folder is named", code="no-policy")
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            problems.add(
                Source(str(path)), 0, 0, f"cannot be read: {error.strerror or type(error).__name__}", code="unreadable",
                hint="name a file or folder that exists and may be read",
            )  # fmt: skip
            continue
        if not stat.S_ISDIR(mode):
            found.setdefault(os.path.realpath(path), path)
            continue
        before = problems.count
        inside = list(_walk(path, problems))
        if not inside and problems.count == before:
            problems.add(
                Source(str(path)), 0, 0, "the folder holds no policy file (*.yaml, *.yml)", code="empty-folder",
                hint="`agentguard policy init --template NAME` writes one",
            )  # fmt: skip
        for file in inside:
            found.setdefault(os.path.realpath(file), file)
    files = list(found.values())
    if len(files) > FILES_MAX:
        problems.add(
            Source(str(files[FILES_MAX])), 0, 0, f"more than {FILES_MAX} files", code="file-too-large"
        )
        return []
    return files


def _walk(folder: Path, problems: Problems) -> Iterable[Path]:
    """All policy files below a folder; what leads out of it is refused."""
    root = os.path.realpath(folder)

    def refuse(error: OSError) -> None:
        problems.add(
            Source(str(error.filename)),
            0,
            0,
            f"cannot be read: {error.strerror or type(error).__name__}",
            code="unreadable",
        )

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(where)
        for name in [*folders]:
            if (here / name).is_symlink():
                # A link to a folder could lead out, or in a circle: neither is policy.
                problems.add(
                    Source(str(here / name)), 0, 0, "a symbolic link to a folder is not followed", code="symlink",
                    hint="name the folder itself in the configuration",
                )  # fmt: skip
        for name in sorted(names):
            if name.startswith(".") or not name.lower().endswith((".yaml", ".yml")):
                continue
            file = here / name
            if file.is_symlink() and os.path.commonpath([root, os.path.realpath(file)]) != root:
                problems.add(
                    Source(str(file)), 0, 0, "a symbolic link that leads out of the policy folder", code="symlink",
                    hint="name the file itself in the configuration",
                )  # fmt: skip
                continue
            yield file


def _read(path: Path, problems: Problems) -> bytes | None:
    """Read one regular file, and no more of it than a document may have."""
    source = Source(str(path))
    try:
        # Not blocking: a pipe that is named like a document must not hold the process.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                problems.add(source, 0, 0, "not a regular file", code="unreadable")
                return None
            # First what it says that it has: memory for all that it may have would be asked for at once.
            expected = min(os.fstat(descriptor).st_size, DOCUMENT_BYTES_MAX) + 1
            data = file.read(expected)
            return data if len(data) < expected else data + file.read(DOCUMENT_BYTES_MAX + 1 - expected)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        problems.add(source, 0, 0, f"cannot be read: {said}", code="unreadable")
        return None


def _assemble(
    sources: Sequence[tuple[str, bytes]],
    facts: dict[str, FactSpec],
    problems: Problems,
    *,
    named: Sequence[str],
) -> Bundle:
    """Read every document, then check what binds them together."""
    drafts: list[PolicyDraft] = []
    approvers: list[Approvers] = []
    schemas: list[ToolSchema] = []
    tests: list[tuple[Reader, PolicyTest]] = []
    exceptions: list[tuple[Reader, PolicyException]] = []
    readers: dict[str, Callable[[Reader, Node], object]] = {
        "Policy": read_policy,
        "PolicyTest": lambda reader, node: read_policy_test(reader, node, facts),
        "Approvers": read_approvers,
        "ToolSchema": read_tool_schema,
        "Exception": read_exception,
    }
    for path, data in sources:
        text = decode(path, data, problems)
        if text is None:
            continue
        source = Source(path, text)
        before = problems.count
        nodes = parse(source, text, problems)
        if not nodes and problems.count == before:
            problems.add(
                source, 1, 1, "the file holds no document", code="empty-file", hint="remove it, or fill it"
            )
        for node in nodes:
            reader = Reader(source, problems)
            kind = _kind(reader, node)
            found = readers[kind](reader, node) if kind else None
            if isinstance(found, PolicyDraft):
                drafts.append(found)
            elif isinstance(found, Approvers):
                approvers.append(found)
            elif isinstance(found, ToolSchema):
                schemas.append(found)
            elif isinstance(found, PolicyException):
                exceptions.append((reader, found))
            elif isinstance(found, PolicyTest):
                tests.append((reader, found))
    _names_are_unique(drafts, problems)
    _approvers_agree(approvers, problems)
    tools = join_tool_schemas(schemas, problems)
    policies: list[Policy] = [compile_policy(draft, facts, tools, approvers, problems) for draft in drafts]
    if problems.count == 0:
        _tests_name_policies(tests, policies)
        exceptions_agree(exceptions, policies, approvers)
        fallbacks_agree(policies, problems)
    if not policies and problems.count == 0:
        where = named[0] if named else "policies"
        problems.add(
            Source(where), 0, 0, "no document of kind Policy", code="no-policy",
            hint="a bundle without a policy decides nothing, and does not load",
        )  # fmt: skip
    if problems.count:
        raise problems.error()
    return Bundle(
        policies=tuple(policies),
        approver_documents=tuple(approvers),
        schemas=tuple(schemas),
        tests=tuple(test for _, test in tests),
        facts=facts,
        paths=tuple(path for path, _ in sources),
        exceptions=tuple(exception for _, exception in exceptions),
    )


def _kind(reader: Reader, node: Node) -> str | None:
    """Read `apiVersion` and `kind`, which say how to read the rest."""
    if not isinstance(node, Fields):
        what = (
            "the document is empty" if isinstance(node, Scalar) and node.value is None else f"got {node.says}"
        )
        reader.problem(node, f"{what}, expected a mapping with apiVersion and kind", code="wrong-type")
        return None
    fine = True
    for name in ("apiVersion", "kind"):
        if name not in node.entries:
            near = did_you_mean(name, [key for key in node.entries if key.lower() != "metadata"])
            written = (
                near.removeprefix("did you mean `").removesuffix("`?")
                if near.startswith("did you mean")
                else ""
            )
            if written and written not in ("apiVersion", "kind"):
                key = node.entries[written][0]
                reader.problem(
                    key, f"unknown field {quoted(written)} in a document", code="unknown-field",
                    hint=f"did you mean `{name}`?",
                )  # fmt: skip
            else:
                reader.problem(
                    node, f"the document has no `{name}`", code="missing-field", hint=f"write `{name}:`"
                )
            fine = False
    if not fine:
        return None
    version = reader.word(node.entries["apiVersion"][1], "apiVersion", (API_VERSION,), code="unknown-version")
    kind_node = node.entries["kind"][1]
    kind = reader.word(kind_node, "kind", _KINDS, code="unknown-kind")
    return kind if version else None


def _names_are_unique(drafts: Sequence[PolicyDraft], problems: Problems) -> None:
    """Two policies of one name could not be told apart in the decision log."""
    seen: dict[str, PolicyDraft] = {}
    for draft in drafts:
        if not draft.name:
            continue
        first = seen.setdefault(draft.name, draft)
        if first is not draft:
            problems.add(
                draft.reader.source, draft.name_node.line, draft.name_node.column,
                f"policy name `{draft.name}` stands twice, first in {first.place.path}:{first.place.line}",
                code="duplicate-policy", hint="give one of them another name",
            )  # fmt: skip


def _approvers_agree(documents: Sequence[Approvers], problems: Problems) -> None:
    """One person has one key, one key one person, and a group is declared once."""
    keys: dict[str, bytes] = {}
    owners: dict[bytes, str] = {}
    groups: set[str] = set()
    for document in documents:
        source = Source(document.place.path)
        for group, people in document.groups.items():
            if group in groups:
                problems.add(
                    source, document.place.line, document.place.column, f"group `{group}` is declared twice",
                    code="duplicate-group",
                )  # fmt: skip
            groups.add(group)
            for person in people:
                if keys.setdefault(person.id, person.public_key) != person.public_key:
                    problems.add(
                        source, document.place.line, document.place.column,
                        f"approver `{person.id}` has two different keys", code="duplicate-approver",
                    )  # fmt: skip
                if owners.setdefault(person.public_key, person.id) != person.id:
                    problems.add(
                        source, document.place.line, document.place.column,
                        f"approvers `{owners[person.public_key]}` and `{person.id}` have the same key",
                        code="duplicate-approver", hint="two people, two keys: else one of them approves twice",
                    )  # fmt: skip


def _tests_name_policies(tests: Sequence[tuple[Reader, PolicyTest]], policies: Sequence[Policy]) -> None:
    """A test that asks a policy, or expects a rule, that is not there tests nothing."""
    by_name = {policy.name: policy for policy in policies}
    for reader, test in tests:
        source, problems = reader.source, reader.problems
        for name in test.policies:
            if name not in by_name:
                problems.add(
                    source, test.place.line, test.place.column,
                    f"the test asks policy {quoted(name)}, which is not loaded", code="unknown-policy",
                    hint=did_you_mean(name, by_name),
                )  # fmt: skip
        asked = [by_name[name] for name in test.policies if name in by_name] or list(policies)
        known = {rule.id for policy in asked for rule in (*policy.rules, *policy.budgets)}
        for case in test.cases:
            expected = [*(case.expect.matched or ()), *([case.expect.rule] if case.expect.rule else [])]
            for rule_id in expected:
                if rule_id not in known:
                    problems.add(
                        source, case.place.line, case.place.column,
                        f"case {quoted(case.name)} expects rule {quoted(rule_id)}, which is not there",
                        code="unknown-rule", hint=did_you_mean(rule_id, known),
                    )  # fmt: skip
