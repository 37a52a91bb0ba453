"""
Every exception that agentguard raises, drawn as one tree.

    AgentGuardError(Exception)
    ├── CallDenied
    ├── ApprovalPending
    ├── ConfigurationError (ValueError)
    ├── PolicyError
    │   ├── PolicyDocumentError
    │   └── PolicyEvaluationError
    ├── StoreError
    │   ├── StoreClosedError
    │   ├── StoreLockedError
    │   └── SegmentCorruptError
    ├── SealError
    │   ├── KeyUnavailableError
    │   └── TamperedError
    ├── DriftError
    │   ├── DriftInputError (ValueError)
    │   └── BaselineTooSmallError
    ├── AuditError
    │   └── ChainBrokenError
    └── ExportError

Two laws stand behind it. *Watching never breaks the watched*: errors of capture,
store, drift and export are counted, logged once per kind and interval, and never
reach the caller of a guarded function. *Enforcing never fails open in silence*:
a policy that cannot be evaluated denies, and the decision names the error.

A message is one line: where, what was got, what was expected. The way out is a
note on the exception (PEP 678), added with `hint`. Messages carry no payloads
and no secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from agentguard.values import Decision, DecisionRecord


class AgentGuardError(Exception):
    """Base of every exception that agentguard raises on purpose."""

    def hint(self, text: str) -> Self:
        """
        Attach the way out as a note, and return the exception.

        Args:
            text:
                One sentence; the word "hint" is put before it.

        Returns:
            The exception itself, so that `raise Error(...).hint(...)` reads.
        """
        self.add_note(f"hint: {text}")
        return self


class CallDenied(AgentGuardError):  # noqa: N818 - the engine did its job, this is no error
    """
    A policy in mode `enforce` said no, and the guarded function did not run.

    For an after-rule the function has run, and its result is withheld. The text
    of the exception is what a model may read: the rule, that it is a rule and
    not a fault, and the ways that stay open. It holds no thresholds, no values
    and no arguments. The reviewer's reason is in `decision.reason`.
    """

    def __init__(self, record: DecisionRecord) -> None:
        super().__init__(record.message)
        self.record = record

    @property
    def decision(self) -> Decision:
        """What the engine answered: effect, deciding rule, all matches, errors."""
        return self.record.decision

    @property
    def decision_id(self) -> str:
        """The id under which the decision log holds this denial."""
        return self.record.decision_id

    def __reduce__(self) -> tuple[type[CallDenied], tuple[DecisionRecord]]:
        """Pickle by record, so that a denial crosses process borders whole."""
        return (type(self), (self.record,))


class ApprovalPending(AgentGuardError):  # noqa: N818 - a person is asked, nothing failed
    """
    A person must decide before this call may run.

    `token` names the request (`agentguard approvals show TOKEN`). Once it is
    granted, the same call with the same arguments runs once.
    """

    def __init__(self, record: DecisionRecord, token: str) -> None:
        super().__init__(record.message)
        self.record = record
        self.token = token

    @property
    def decision(self) -> Decision:
        """What the engine answered."""
        return self.record.decision

    @property
    def decision_id(self) -> str:
        """The id under which the decision log holds this request."""
        return self.record.decision_id

    def __reduce__(self) -> tuple[type[ApprovalPending], tuple[DecisionRecord, str]]:
        """Pickle by record and token."""
        return (type(self), (self.record, self.token))


class ConfigurationError(AgentGuardError, ValueError):
    """
    The settings cannot be used. Raised by `init()` only, with all problems at once.

    Args of the constructor: one line per problem, in the order found.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PolicyError(AgentGuardError):
    """Base of what can be wrong with a policy."""


class PolicyDocumentError(PolicyError):
    """
    A policy document does not load.

    The message of each problem is `path:line:column: text`; an excerpt with a
    caret and a did-you-mean are in the notes. Several problems of one folder
    are raised together, `problems` has them one by one.
    """

    def __init__(self, message: str, *, problems: tuple[PolicyProblem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class PolicyProblem:
    """
    One mistake in one policy document, with its place.

    Lines and columns count from 1; 0 means that the place is the whole file.
    """

    __slots__ = ("code", "column", "excerpt", "hint", "line", "path", "text")

    def __init__(
        self,
        *,
        path: str,
        line: int,
        column: int,
        text: str,
        hint: str = "",
        excerpt: str = "",
        code: str = "invalid",
    ) -> None:
        self.path = path
        """The document, as it was named to the loader."""
        self.line = line
        self.column = column
        self.text = text
        """What was got and what was expected, one line."""
        self.hint = hint
        """The way out, or the empty string."""
        self.excerpt = excerpt
        """The line of the document and a caret under the place, two lines, or empty."""
        self.code = code
        """A stable short name of the kind of mistake, such as `unknown-field`."""

    def __str__(self) -> str:
        """`path:line:column: text`, without excerpt and hint."""
        return f"{self.path}:{self.line}:{self.column}: {self.text}"

    def __repr__(self) -> str:
        """The same, for debuggers."""
        return f"PolicyProblem({str(self)!r}, code={self.code!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by fields."""
        return (_problem, tuple(getattr(self, name) for name in sorted(self.__slots__)))


def _problem(
    code: str, column: int, excerpt: str, hint: str, line: int, path: str, text: str
) -> PolicyProblem:
    """Rebuild a pickled problem; the order is that of the sorted slots."""
    return PolicyProblem(
        path=path, line=line, column=column, text=text, hint=hint, excerpt=excerpt, code=code
    )


class PolicyEvaluationError(PolicyError):
    """A condition could not be evaluated; where it gates a call, the decision was deny."""


class StoreError(AgentGuardError):
    """Base of what can be wrong with the store."""


class StoreClosedError(StoreError):
    """The store was closed, and something was still appended or read."""


class StoreLockedError(StoreError):
    """Another process holds a part of the store that only one may hold."""


class SegmentCorruptError(StoreError):
    """A piece is authentic or unreadable as stored, and does not decode: damage, not tampering."""


class SealError(AgentGuardError):
    """Base of what can be wrong with sealing and keys."""


class KeyUnavailableError(SealError):
    """No key provider could give the key, or the key given is not the store's."""


class TamperedError(SealError):
    """The bytes are not what was sealed: altered, truncated, reordered or spliced."""


class DriftError(AgentGuardError):
    """Base of what can be wrong with drift checks."""


class DriftInputError(DriftError, ValueError):
    """The data handed to a drift check cannot be compared as asked."""


class BaselineTooSmallError(DriftError):
    """The reference holds too few spans to carry the promised false-alarm rate."""


class AuditError(AgentGuardError):
    """Base of what can be wrong with the decision log."""


class ChainBrokenError(AuditError):
    """
    A record of the decision log does not follow the one before it.

    The message names the first record that does not follow.
    """


class ExportError(AgentGuardError):
    """An export cannot be done as asked."""
