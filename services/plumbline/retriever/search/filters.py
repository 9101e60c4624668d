"""Which values a query looks at: metadata as integer columns, compared before any search.

Shapes: N values (rows), M rows that a filter admits.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import CorruptArtifactError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values.timelines import windows
from plumbline.retriever.values.validation import parse_date

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

FIELDS = ("jurisdiction", "tenant", "audience", "category", "kind")
"""Fields of a value that are compared by label."""
_COLUMNS_FILE = "columns.npy"
_LABELS_FILE = "labels.json"
_CACHED_FILTERS = 64


@dataclass(frozen=True, slots=True)
class ValueQuery:
    """Which values are looked at. An empty field of a value applies to every query."""

    as_of: str = ""
    """ISO date; empty means today (UTC)."""
    jurisdiction: str = ""
    """`CN-11` also finds values of `CN` and those without a jurisdiction."""
    tenant: str = ""
    audience: str = ""
    categories: tuple[str, ...] = ()
    """Only values of these categories; empty means all."""
    kinds: tuple[str, ...] = ()
    """Only values of these kinds; empty means all."""

    @property
    def day(self) -> datetime.date:
        """The day on which values must be in force.

        Raises:
            InvalidInputError: `as_of` is no date.
        """
        return parse_date(self.as_of, "filter.as_of") or datetime.datetime.now(datetime.UTC).date()

    def on_one_day(self) -> ValueQuery:
        """The same query with its day fixed, for a search may go on past midnight."""
        return dataclasses.replace(self, as_of=self.day.isoformat())

    def accepted(self, field: str) -> tuple[str, ...] | None:
        """Labels of a field that a value may have; None where any will do."""
        if field == "jurisdiction":
            return enclosing(self.jurisdiction)
        if field == "category":
            return self.categories or None
        if field == "kind":
            return self.kinds or None
        return ("", getattr(self, field))


def enclosing(jurisdiction: str) -> tuple[str, ...]:
    """A place and all that it lies in: `CN-11-01` gives `""`, `CN`, `CN-11`, `CN-11-01`."""
    parts = jurisdiction.split("-") if jurisdiction else []
    return ("", *("-".join(parts[: i + 1]) for i in range(len(parts))))


class FilterColumns:
    """Metadata of N rows: first day and end of each window, and a code for each field's label.

    Args:
        columns: [7, N] int32: window start and end as date ordinals, then one row of codes for
            each of jurisdiction, tenant, audience, category and kind.
        labels: for each of the five, its labels; a code is a place in them.
    """

    def __init__(self, columns: NDArray[np.int32], labels: Sequence[Sequence[str]]) -> None:
        self._columns = columns
        self._labels = labels
        self._codes_of = [{label: code for code, label in enumerate(each)} for each in labels]
        self._cache: OrderedDict[tuple[object, ...], Rows] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._columns.shape[1])

    @classmethod
    def of(cls, values: Sequence[ValueSpec]) -> FilterColumns:
        """The columns of values, every version of each id among them."""
        columns = np.empty((2 + len(FIELDS), len(values)), dtype=np.int32)
        if len(values):
            columns[:2] = np.asarray(windows(values), dtype=np.int32).T
        labels = []
        for position, field in enumerate(FIELDS, start=2):
            column = [str(getattr(value, field)) for value in values]
            known = sorted(set(column))
            codes = {label: code for code, label in enumerate(known)}
            columns[position] = [codes[label] for label in column]
            labels.append(known)
        return cls(columns, labels)

    def mask(self, where: ValueQuery) -> Mask:
        """[N], true where a value is in force and applies to the query."""
        day = where.day.toordinal()
        admitted: Mask = self._columns[0] <= day
        admitted &= self._columns[1] > day
        for position, (field, codes_of) in enumerate(zip(FIELDS, self._codes_of, strict=True)):
            accepted = where.accepted(field)
            if accepted is None:
                continue
            codes = {codes_of[label] for label in accepted if label in codes_of}
            if len(codes) == len(codes_of):
                continue
            admitted &= _is_one_of(self._columns[2 + position], codes, len(codes_of))
        return admitted

    def rows(self, where: ValueQuery) -> Rows:
        """[M], the rows that the filter admits, ascending; remembered for repeated filters."""
        key = (where.day, *(where.accepted(field) for field in FIELDS))
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        rows = np.flatnonzero(self.mask(where))
        rows.flags.writeable = False
        with self._lock:
            self._cache[key] = rows
            while len(self._cache) > _CACHED_FILTERS:
                self._cache.popitem(last=False)
        return rows

    def describe(self, row: int) -> dict[str, int | str]:
        """One row by name: `first` and `end` of its window, and its label in each field."""
        first, end, *codes = (int(cell) for cell in self._columns[:, row])
        named = zip(FIELDS, self._labels, codes, strict=True)
        return {"first": first, "end": end, **{field: of[code] for field, of, code in named}}

    def write(self, directory: Path) -> None:
        """Write the columns; the same values give the same bytes."""
        np.save(directory / _COLUMNS_FILE, self._columns, allow_pickle=False)
        (directory / _LABELS_FILE).write_text(
            json.dumps(self._labels, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    @classmethod
    def read(cls, directory: Path) -> FilterColumns:
        """Columns that `write` has written.

        Raises:
            CorruptArtifactError: the files are not there, or not such columns.
        """
        try:
            columns = np.load(directory / _COLUMNS_FILE, allow_pickle=False)
            labels = json.loads((directory / _LABELS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CorruptArtifactError(f"{directory}: no filter columns: {error}") from error
        if columns.shape[:1] != (2 + len(FIELDS),) or len(labels) != len(FIELDS):
            raise CorruptArtifactError(
                f"{directory}: filter columns are {columns.shape} with {len(labels)} lists of "
                f"labels; accepted: [{2 + len(FIELDS)}, N] with {len(FIELDS)}"
            )
        return cls(columns, labels)


def _is_one_of(column: NDArray[np.int32], codes: set[int], labels: int) -> Mask:
    """[N], true where the code is among those accepted."""
    if len(codes) == 1:
        equal: Mask = column == next(iter(codes))
        return equal
    accepted = np.zeros(labels, dtype=np.bool_)
    accepted[list(codes)] = True
    return accepted[column]
