"""
The feature block: the numbers of some spans, as columns.

It stands beside the rows of every chunk, so that stats and drift read numbers
without opening content. Name, type, unit and version of each column are described in
the block, or once in the file. No numpy here: columns are handed out as buffers.

Layout (little-endian): version (2), number of columns (2), rows (4), first
sequence (8), bytes of the description (4), reserved (4); the description, zero
padded to 8; a form for each column (1), zero padded to 8; the columns, each zero
padded to 8; the dictionaries. The description, where the block has its own, has for
each column: length of the name (1), name, type (1: 1 int64, 2 float64, 3 index into a
dictionary), length of the unit (1), unit, version that brought the column (2). The
form says how many bytes a value has; 0 is one value for all rows. Integers of 1, 2 and
4 bytes stand after a base of 8 bytes that is added to each. A dictionary has its
length (4), and for each entry length (4) and UTF-8 text.
"""

from __future__ import annotations

import hashlib
import math
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from agentguard.errors import SegmentCorruptError
from agentguard.values import FEATURE_BLOCK_VERSION, FEATURES, SpanRecord, is_personal
from agentguard.values import attributes as names

HEAD = struct.Struct("<HHIQII")
U32 = struct.Struct("<I")
I64 = struct.Struct("<q")
_TYPE_CODES = {"int64": 1, "float64": 2, "dict": 3}
_DTYPES: Final = {1: "int64", 2: "float64", 3: "dict"}
NARROW: Final = {1: "b", 2: "h", 4: "i"}
"""Signed integers by their bytes."""
IS_BIG_ENDIAN = sys.byteorder == "big"
INT64: Final = range(-(2**63), 2**63)
TEXT_CHARS_MAX = 512
ROWS_MAX = 2**20
"""No block has more: one value for all rows must not make a reader reserve what it likes."""
_CACHE_ENTRIES_MAX = 4096
MISSING = -1
NAN = math.nan

_OTEL_TYPES: Mapping[type, str] = {str: "string", bool: "bool", int: "int", float: "double"}


class Column(NamedTuple):
    """One column of a block."""

    name: str
    dtype: str
    """int64, float64 or dict."""
    unit: str
    values: memoryview[Any]
    """Format `q` or `d`; `B` or `H` for an index into `dictionary`."""
    dictionary: tuple[str, ...] = ()

    def texts(self) -> list[str]:
        """The values of a column with a dictionary, as text."""
        return [self.dictionary[index] for index in self.values]


class FeatureBlock(NamedTuple):
    """The columns of some consecutive spans of one writer."""

    rows: int
    first_sequence: int
    columns: Mapping[str, Column]

    def select(self, keep: Sequence[int]) -> FeatureBlock:
        """The same block with only the rows at the places *keep*."""
        columns = {
            name: column._replace(
                values=memoryview(array(column.values.format, [column.values[i] for i in keep]))
            )
            for name, column in self.columns.items()
        }
        return FeatureBlock(len(keep), self.first_sequence, columns)


def padded(data: bytes) -> bytes:
    """Fill up to a multiple of 8."""
    return data + bytes(-len(data) % 8) if len(data) % 8 else data


def _describe() -> bytes:
    """Write the description of the columns of this version, with its padding."""
    parts = []
    for spec in FEATURES.values():
        name, unit = spec.name.encode(), spec.unit.encode()
        parts.append(
            bytes([len(name)]) + name + bytes([_TYPE_CODES[spec.dtype], len(unit)]) + unit
            + spec.since.to_bytes(2, "little")
        )  # fmt: skip
    return padded(b"".join(parts))


DESCRIPTION: Final = _describe()
"""The columns of this version. It stands once in a file, beside the resource; a block may have its own."""


class _Fingerprints:
    """Fingerprints of sets of attribute names and types; a bounded cache."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], tuple[list[type], str]] = {}
        """For each tuple of names the types that came with it last."""

    def of(self, names_of: tuple[str, ...], types: list[type]) -> str:
        last = self._known.get(names_of)
        if last is not None and last[0] == types:
            return last[1]
        # Names of what is sealed for a person are left out: a chunk is described anew without them.
        pairs = sorted(
            f"{name}:{_OTEL_TYPES.get(kind, 'array')}"
            for name, kind in zip(names_of, types, strict=True)
            if not is_personal(name)
        )
        text = "\n".join(pairs).encode("utf-8", "backslashreplace")
        found = hashlib.blake2b(text, digest_size=8).hexdigest()
        if len(self._known) >= _CACHE_ENTRIES_MAX:
            self._known.clear()
        self._known[names_of] = (types, found)
        return found


fingerprint = _Fingerprints().of
"""The fingerprint of attribute names and their values' types, but for those that may name or quote a person."""


def count_of(value: object, missing: int = MISSING) -> int:
    """A number of tokens or nanoseconds that fits 64 bits; *missing* for anything else."""
    if type(value) is int:
        return value if value in INT64 else missing
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) < INT64[-1]:
        return int(value)
    return missing


def text_of(value: object) -> str:
    """A name that fits a dictionary; empty where there is none."""
    if value is None:
        return ""
    return value[:TEXT_CHARS_MAX] if isinstance(value, str) else ""


def nanoseconds_of(seconds: object) -> int:
    """Seconds as nanoseconds; `MISSING` where they are no number."""
    return count_of(seconds * 1e9) if isinstance(seconds, int | float) else MISSING


def cost_of(cost: object, amount: object, currency: object) -> float:
    """US dollars: what a call cost, else an amount in that currency; not a number where unknown."""
    if cost is None and currency == "USD":
        cost = amount
    return float(cost) if isinstance(cost, int | float) else NAN


def retries_of(resent: object, attempts: object) -> int:
    """Attempts beyond the first."""
    retries = count_of(attempts, 1) - 1 if resent is None else resent
    return max(count_of(retries, 0), 0)


def first_reason_of(reasons: object) -> object:
    """The first of the finish reasons."""
    if isinstance(reasons, list | tuple):
        return reasons[0] if reasons else None
    return reasons


def numbers_of(record: SpanRecord) -> tuple[int, int, int, int, int, float, int, int, int]:
    """Derive the number columns of one span, in the order of the catalogue."""
    attributes = record.attributes
    get = attributes.get
    inputs, outputs = count_of(get(names.INPUT_TOKENS)), count_of(get(names.OUTPUT_TOKENS))
    is_missing = record.kind == "model" and (inputs == outputs == MISSING or bool(get(names.USAGE_MISSING)))
    return (
        count_of(record.start_unix_ns, 0),
        count_of(record.duration_ns, 0),
        nanoseconds_of(get(names.TIME_TO_FIRST_CHUNK_S)),
        inputs,
        outputs,
        cost_of(get(names.COST_USD), get(names.COST_AMOUNT), get(names.COST_CURRENCY, "USD")),
        retries_of(get(names.HTTP_RESEND_COUNT), get(names.ATTEMPTS, 1)),
        1 if record.status == "error" or names.ERROR_TYPE in attributes else 0,
        1 if is_missing else 0,
    )


def texts_of(record: SpanRecord) -> tuple[str, ...]:
    """Derive the dictionary columns of one span, in the order of the catalogue."""
    attributes = record.attributes
    get = attributes.get
    found = (
        record.kind,
        get(names.AGENT_NAME),
        get(names.TOOL_NAME),
        get(names.RESPONSE_MODEL) or get(names.REQUEST_MODEL),
        get(names.PROMPT_VERSION),
        get(names.LABEL_TENANT),
        first_reason_of(get(names.RESPONSE_FINISH_REASONS)),
        get(names.ERROR_TYPE),
    )
    return (*map(text_of, found), fingerprint(tuple(attributes), list(map(type, attributes.values()))))


class _ColumnPlace(NamedTuple):
    """Where a column lies in a block, for a given number of rows."""

    name: str
    code: int
    unit: str


_layouts: dict[bytes, tuple[_ColumnPlace, ...]] = {}
"""Descriptions that were read before: a file repeats the same one in every block."""


def _columns_of(description: bytes) -> tuple[_ColumnPlace, ...]:
    """Read a description."""
    known = _layouts.get(description)
    if known is not None:
        return known
    places, offset = [], 0
    while offset < len(description) and description[offset]:
        name_end = offset + 1 + description[offset]
        name = description[offset + 1 : name_end].decode()
        code, unit_length = description[name_end], description[name_end + 1]
        unit_end = name_end + 2 + unit_length
        if code not in _DTYPES:
            raise SegmentCorruptError(f"features: got column type {code}, expected 1, 2 or 3")
        places.append(_ColumnPlace(name, code, description[name_end + 2 : unit_end].decode()))
        offset = unit_end + 2
    if len(_layouts) >= _CACHE_ENTRIES_MAX:
        _layouts.clear()
    _layouts[description] = tuple(places)
    return tuple(places)


def place_of(plain: bytes) -> tuple[int, int]:
    """
    Read first sequence number and number of rows of a block, and no more of it.

    Raises:
        SegmentCorruptError: The bytes are no feature block.

    """
    if len(plain) < HEAD.size:
        raise SegmentCorruptError(f"features: got {len(plain)} bytes, expected at least {HEAD.size}")
    _, _, rows, first_sequence, _, _ = HEAD.unpack_from(plain)
    return first_sequence, rows


def decode_features(plain: bytes, wanted: frozenset[str] | None = None) -> FeatureBlock:
    """
    Read a feature block.

    Args:
        plain:
            The bytes of the block.

        wanted:
            Names of the columns that are asked for; `None` for all. Columns that
            the block does not have are left out of the answer.

    Raises:
        SegmentCorruptError: The bytes are no feature block.

    """
    try:
        version, n_columns, rows, first_sequence, description_bytes, _ = HEAD.unpack_from(plain)
        if version > FEATURE_BLOCK_VERSION:
            raise SegmentCorruptError(
                f"features: got version {version}, expected at most {FEATURE_BLOCK_VERSION}"
            )
        offset = HEAD.size + description_bytes
        places = _columns_of(plain[HEAD.size : offset] or DESCRIPTION)
        forms = plain[offset : offset + n_columns]
        if len(places) != n_columns or len(forms) != n_columns:
            raise SegmentCorruptError(f"features: got {len(places)} columns, expected {n_columns}")
        if rows > ROWS_MAX:
            raise SegmentCorruptError(f"features: got {rows} rows, expected at most {ROWS_MAX}")
        offset += n_columns + (-n_columns % 8)
        view = memoryview(plain)
        columns: dict[str, Column] = {}
        with_dictionary: list[str | None] = []
        for (name, code, unit), form in zip(places, forms, strict=True):
            end = offset + _size_of(code, form, rows)
            is_wanted = wanted is None or name in wanted
            if code == 3:
                with_dictionary.append(name if is_wanted else None)
            if is_wanted:
                values = _read_column(view[offset:end], code, form, rows)
                columns[name] = Column(name, _DTYPES[code], unit, values)
            offset = end + (-end % 8)
        if any(with_dictionary):
            _read_dictionaries(plain, offset, with_dictionary, columns)
    except (struct.error, UnicodeDecodeError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise SegmentCorruptError("features: got bytes that do not decode, expected a block") from error
    return FeatureBlock(rows, first_sequence, columns)


def _size_of(code: int, form: int, rows: int) -> int:
    """
    How many bytes a column takes, without its padding.

    Raises:
        SegmentCorruptError: No column of this type has this form.

    """
    if form == 0:
        return 8
    if form == 8 and code != 3:
        return 8 * rows
    if code == 1 and form in NARROW:
        return 8 + form * rows
    if code == 3 and form in {1, 2}:
        return form * rows
    raise SegmentCorruptError(f"features: got form {form} for a column of type {code}, expected another")


def _read_column(data: memoryview, code: int, form: int, rows: int) -> memoryview[Any]:
    """Read the values of a column."""
    whole = "d" if code == 2 else "q"
    if form == 0:
        if code == 3:
            return memoryview(bytes(rows))
        return memoryview(array(whole, _buffer(data, whole)) * rows)
    if code == 3:
        return data.cast("B") if form == 1 else _buffer(data, "H")
    if form == 8:
        return _buffer(data, whole)
    (base,) = I64.unpack_from(data)
    values = _buffer(data[8:], NARROW[form])
    return memoryview(array("q", [base + value for value in values] if base else values))


def _buffer(data: memoryview, code: str) -> memoryview[Any]:
    """View bytes as numbers, in the byte order of this machine."""
    if not IS_BIG_ENDIAN:
        return data.cast(code)  # type: ignore[call-overload, no-any-return]
    swapped = array(code, data.tobytes())
    swapped.byteswap()
    return memoryview(swapped)


def _read_dictionaries(
    plain: bytes, offset: int, wanted: Sequence[str | None], columns: dict[str, Column]
) -> None:
    """Read the dictionaries that are asked for, and pass the others by."""
    for name in wanted:
        (count,) = U32.unpack_from(plain, offset)
        offset += 4
        entries = []
        for _ in range(count):
            (length,) = U32.unpack_from(plain, offset)
            end = offset + 4 + length
            if end > len(plain):
                raise SegmentCorruptError("features: got a dictionary that is cut off, expected it whole")
            if name is not None:
                entries.append(plain[offset + 4 : end].decode())
            offset = end
        if name is not None:
            column = columns[name]
            if column.values and max(column.values) >= len(entries):
                raise SegmentCorruptError("features: got an index beyond its dictionary, expected one within")
            columns[name] = column._replace(dictionary=tuple(entries))
