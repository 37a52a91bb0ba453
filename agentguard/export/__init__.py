"""
What leaves the store: OTLP to a backend, tables and lines to files.

Takes a store and a destination, gives what became of the spans. It never stands
between a call and its result: everything is read from disk, in a thread of its
own, and a backend that is away costs nothing and loses nothing. Recorded content
leaves only where that is said.
"""

from agentguard.export._checkpoint import checkpoint_sender
from agentguard.export._config import OtlpConfig, otlp_config, parse_headers
from agentguard.export._content import CONTENTS, Content, outgoing, without_content
from agentguard.export._delivery import ExportCounters
from agentguard.export._exporter import OtlpExporter
from agentguard.export._features import FEATURE_COLUMNS, FeatureRow, feature_rows, write_csv, write_parquet
from agentguard.export._files import private_file
from agentguard.export._jsonl import span_object, write_jsonl
from agentguard.export._source import decode_cursor
from agentguard.export._span_table import write_spans_parquet

__all__ = [
    "CONTENTS",
    "FEATURE_COLUMNS",
    "Content",
    "ExportCounters",
    "FeatureRow",
    "OtlpConfig",
    "OtlpExporter",
    "checkpoint_sender",
    "decode_cursor",
    "feature_rows",
    "otlp_config",
    "outgoing",
    "parse_headers",
    "private_file",
    "span_object",
    "without_content",
    "write_csv",
    "write_jsonl",
    "write_parquet",
    "write_spans_parquet",
]
