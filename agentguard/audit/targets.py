"""
Where anchors go, as people write it in settings and on command lines.

`file:PATH`, `https://…` (or `http://` on this machine), `rfc3161:URL`, and `otlp`,
which only a running process knows.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from agentguard.audit.anchors import AnchorSink, FileAnchor, WebhookAnchor
from agentguard.audit.timestamps import TimestampAnchor
from agentguard.errors import AuditError

OTLP = "otlp"
FILE = "file:"
TIMESTAMP = "rfc3161:"
EXPECTED = "file:PATH, https://…, rfc3161:https://… or otlp"


def is_target(text: str) -> bool:
    """
    Whether a text names a place for anchors.

    Example:
        >>> [is_target(text) for text in ("file:/mnt/a", "otlp", "https://a.example/x", "ftp://a", "file:")]
        [True, True, True, False, False]
    """
    if text == OTLP:
        return True
    if text.startswith(FILE):
        return len(text) > len(FILE)
    try:
        parts = urlsplit(text.removeprefix(TIMESTAMP))
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def sink_for(target: str, *, roots: Path | None = None, receipts: Path | None = None) -> AnchorSink:
    """
    Make what hands anchors over.

    Args:
        target:
            As `is_target` knows it, but `otlp`.
        roots:
            PEM certificates of time-stamping authorities.
        receipts:
            Folder for time stamps, where somebody wants them beside the receipts of the store.

    Raises:
        AuditError: It is no target, or a time stamp without certificates.
    """
    if target == OTLP or not is_target(target):
        raise AuditError(f"anchor: got `{target}`, expected {EXPECTED.removesuffix(' or otlp')}")
    if target.startswith(FILE):
        return FileAnchor(Path(target.removeprefix(FILE)))
    if not target.startswith(TIMESTAMP):
        return WebhookAnchor(target)
    if roots is None:
        shown = target.partition("?")[0]
        raise AuditError(f"anchor: `{shown}` cannot be checked without certificates").hint(
            "name the authority's: `--roots FILE`, or the setting `decisions_anchor_roots`"
        )
    return TimestampAnchor(target.removeprefix(TIMESTAMP), receipts, roots=roots)
