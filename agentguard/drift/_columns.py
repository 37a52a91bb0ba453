"""
Tables of any kind as plain columns: data frames, mappings of arrays, Parquet and CSV files.

Gives columns of numbers or of text, with what is missing or not finite counted. It never guesses
what a feature means; that is `_compare`'s.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agentguard.drift._sample import Floats
from agentguard.errors import DriftInputError

COLUMNS_MAX = 10_000
"""Columns of one table; a wider one is refused."""

_MISSING_WORDS = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>"})
_TRUE_WORDS = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of one table. Exactly one of `numbers` and `texts` is set, or neither."""

    name: str
    n_rows: int
    numbers: Floats | None = None
    """Shape `(n_rows,)`, NaN where missing."""
    texts: Sequence[str | None] | None = None
    """`n_rows` entries, None where missing."""
    is_boolean: bool = False
    problem: str = ""
    """Why the column cannot be compared at all, as the rest of a sentence; empty where it can."""


Table = dict[str, Column]
"""Columns by name, in the order of the source."""


def read_table(source: object, *, what: str, only: Iterable[str] = ()) -> Table:
    """
    Read a table from whatever the caller has.

    Args:
        source:
            A pandas, polars or pyarrow table (anything narwhals knows), a mapping of column names to
            sequences, or the path of a `.parquet` or `.csv` file.
        what:
            How messages call it: reference or current.
        only:
            Names of the columns to read; empty for all. Names that are not there are left out.

    Raises:
        DriftInputError: It is none of these, has no columns, columns of different lengths, or two
            columns with one name.
    """
    wanted = tuple(only)
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source), what=what, wanted=wanted)
    if isinstance(source, Mapping):
        return _checked(_mapping_columns(source, what=what, wanted=wanted), what=what)
    return _read_frame(source, what=what, wanted=wanted)


def _checked(table: Table, *, what: str) -> Table:
    """Refuse tables whose columns differ in length."""
    lengths = {column.n_rows for column in table.values()}
    if len(lengths) > 1:
        raise DriftInputError(
            f"{what}: columns have {min(lengths)} to {max(lengths)} rows, expected one length"
        )
    return table


def _mapping_columns(source: Mapping[Any, Any], *, what: str, wanted: tuple[str, ...]) -> Table:
    """Read a mapping of names to sequences."""
    if not source:
        raise DriftInputError(f"{what}: got an empty mapping, expected at least one column")
    table: Table = {}
    for key, values in source.items():
        name = str(key)
        if wanted and name not in wanted:
            continue
        if isinstance(values, (str, bytes)) or not (
            isinstance(values, (Sequence, np.ndarray))
            or hasattr(values, "__array__")
            or hasattr(values, "__len__")
        ):
            raise DriftInputError(
                f"{what}: column `{name}` is a {type(values).__name__}, expected a sequence"
            )
        table[name] = column_of(name, values)
    return table


def column_of(name: str, values: Any) -> Column:
    """Make a column of an array or any sequence of Python objects."""
    if isinstance(values, np.ma.MaskedArray):
        return _objects(name, values.tolist())
    array = values if isinstance(values, np.ndarray) else None
    if array is None and hasattr(values, "__array__") and not isinstance(values, (list, tuple)):
        array = np.asarray(values)
    if array is None or array.dtype.kind in "OUSV":
        return _objects(name, list(values) if array is None else array.tolist())
    if array.ndim != 1:
        return Column(name, len(array) if array.ndim else 0, problem=f"has {array.ndim} dimensions, not one")
    if array.dtype.kind in "iufb":
        return Column(name, len(array), numbers=array.astype(np.float64), is_boolean=array.dtype.kind == "b")
    return Column(
        name, len(array), problem="holds dates, durations or complex numbers, which are not features"
    )


def _objects(name: str, values: list[Any]) -> Column:
    """Make a column of Python objects: all numbers, all text, or a mixture that is refused."""
    numbers = np.full(len(values), np.nan)
    texts: list[str | None] = [None] * len(values)
    seen = {"missing": 0, "boolean": 0, "number": 0, "text": 0, "other": 0}
    for i, value in enumerate(values):
        kind, number = _kind_of(value)
        seen[kind] += 1
        if kind == "text":
            texts[i] = value
        else:
            numbers[i] = number
    n, n_numbers = len(values), seen["number"] + seen["boolean"]
    if seen["other"]:
        return Column(name, n, problem="holds objects that are neither numbers nor text")
    if seen["text"] and n_numbers:
        problem = f"mixes text ({seen['text']:,} rows) and numbers ({n_numbers:,} rows)"
        return Column(name, n, problem=problem)
    if seen["text"]:
        return Column(name, n, texts=texts)
    return Column(name, n, numbers=numbers, is_boolean=seen["boolean"] > 0 and not seen["number"])


def _kind_of(value: Any) -> tuple[str, float]:
    """Return what one Python object is, and its number; NaN where it has none."""
    if isinstance(value, str):
        return "text", math.nan
    if isinstance(value, (bool, np.bool_)):
        return "boolean", float(value)
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return "missing", math.nan
    try:  # Decimal and Fraction are numbers too; dates, bytes and lists are not
        number = float(value) if not isinstance(value, (bytes, bytearray)) else None
    except OverflowError:
        return "number", math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        number = None
    if number is None:
        return "other", math.nan
    return ("missing" if math.isnan(number) else "number"), number


def parsed_texts(name: str, cells: Sequence[str]) -> Column:
    """
    Make a column of the cells of a text file: numbers, true/false, or text.

    A column where most cells are numbers and some are other text is refused, not guessed.
    """
    n = len(cells)
    numbers = np.full(n, np.nan)
    texts: list[str | None] = [None] * n
    n_numbers = n_booleans = n_texts = 0
    for i, cell in enumerate(cells):
        word = cell.strip()
        lowered = word.lower()
        if lowered in _MISSING_WORDS:
            continue
        if lowered in _TRUE_WORDS:
            numbers[i], texts[i], n_booleans = _TRUE_WORDS[lowered], word, n_booleans + 1
            continue
        texts[i] = word
        try:
            numbers[i] = float(word)
            n_numbers += 1
        except ValueError:
            n_texts += 1
    if not n_texts and not (n_numbers and n_booleans):
        return Column(name, n, numbers=numbers, is_boolean=n_booleans > 0)
    if n_numbers > n_texts:
        return Column(
            name,
            n,
            problem=f"mixes numbers ({n_numbers:,} rows) and other text ({n_texts + n_booleans:,} rows)",
        )
    return Column(name, n, texts=texts)


def _read_frame(source: Any, *, what: str, wanted: tuple[str, ...]) -> Table:
    """Read a data frame through narwhals."""
    import narwhals as nw

    try:
        frame = nw.from_native(source)
    except TypeError:
        raise DriftInputError(
            f"{what}: got a {type(source).__name__}, expected a data frame, a mapping of columns or a path"
        ).hint("pandas, polars and pyarrow tables work, and .parquet and .csv files") from None
    except nw.exceptions.DuplicateError:
        raise DriftInputError(f"{what}: two columns have one name, expected each name once") from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    names = list(frame.columns)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise DriftInputError(f"{what}: column `{twice[0]}` occurs more than once, expected each name once")
    if not names:
        raise DriftInputError(f"{what}: the table has no columns, expected at least one")
    if len(names) > COLUMNS_MAX:
        raise DriftInputError(f"{what}: got {len(names)} columns, expected at most {COLUMNS_MAX}")
    return {
        str(name): _series_column(str(name), frame[name])
        for name in names
        if not wanted or str(name) in wanted
    }


def _series_column(name: str, series: Any) -> Column:
    """Make a column of a narwhals series."""
    import narwhals as nw

    n, dtype = len(series), series.dtype
    if dtype == nw.Boolean or dtype.is_numeric():
        numbers = np.full(n, np.nan)
        is_there = ~np.asarray(series.is_null().to_numpy(), dtype=bool)
        numbers[is_there] = np.asarray(series.drop_nulls().to_numpy()).astype(np.float64)
        return Column(name, n, numbers=numbers, is_boolean=dtype == nw.Boolean)
    if dtype in (nw.Date, nw.Datetime, nw.Duration, nw.Time):
        return Column(name, n, problem="holds dates or durations, which are not features")
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return Column(name, n, texts=[_text_or_none(v) for v in series.to_list()])
    return _objects(name, series.to_list())


def _text_or_none(value: object) -> str | None:
    """Return an entry of a text column as text, None where it is missing."""
    if isinstance(value, str):
        return value
    return None if _kind_of(value)[0] == "missing" else str(value)


def _read_file(path: Path, *, what: str, wanted: tuple[str, ...]) -> Table:
    """Read a Parquet or CSV file."""
    suffix = path.suffix.lower()
    if suffix not in {".parquet", ".pq", ".csv", ".tsv"}:
        raise DriftInputError(f"{what}: `{path}` ends in `{suffix}`, expected .parquet or .csv")
    if not path.is_file():
        raise DriftInputError(f"{what}: there is no file `{path}`")
    return (
        _read_csv(path, what=what, wanted=wanted)
        if suffix in {".csv", ".tsv"}
        else _read_parquet(path, what, wanted)
    )


def _read_parquet(path: Path, what: str, wanted: tuple[str, ...]) -> Table:
    """Read only the columns asked for of a Parquet file."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DriftInputError(f"{what}: `{path}` is a Parquet file, and pyarrow is not installed").hint(
            "pip install 'agentguard[parquet]', or hand in a data frame or a CSV file"
        ) from None
    try:
        file = parquet.ParquetFile(path)
        names = [name for name in file.schema_arrow.names if not wanted or name in wanted]
        return _read_frame(file.read(columns=names), what=what, wanted=()) if names else {}
    except (ArrowException, OSError, EOFError) as error:
        raise DriftInputError(
            f"{what}: `{path}` is not a readable Parquet file ({type(error).__name__})"
        ) from None


def _read_csv(path: Path, *, what: str, wanted: tuple[str, ...]) -> Table:
    """Read a CSV file with one header line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            header = next(reader, None)
            if not header:
                raise DriftInputError(f"{what}: `{path}` is empty, expected a header line")
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise DriftInputError(
                    f"{what}: column `{twice[0]}` occurs more than once, expected each name once"
                )
            places = [i for i, name in enumerate(header) if not wanted or name in wanted]
            cells: list[list[str]] = [[] for _ in places]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DriftInputError(
                        f"{what}: `{path}` line {reader.line_num} has {len(row)} cells, expected {len(header)}"
                    )
                for column, place in zip(cells, places, strict=True):
                    column.append(row[place])
    except UnicodeDecodeError:
        raise DriftInputError(f"{what}: `{path}` is not UTF-8 text") from None
    except csv.Error as error:
        raise DriftInputError(f"{what}: `{path}` is not readable as CSV ({error})") from None
    except OSError as error:
        raise DriftInputError(f"{what}: `{path}` cannot be read ({error.strerror})") from None
    return {
        header[place]: parsed_texts(header[place], column)
        for column, place in zip(cells, places, strict=True)
    }
