"""Rows of numbers in a CSV or JSONL file that a resumed training goes on with."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FORMATS = ('.csv', '.jsonl')


class ScalarFile:
    """Appends rows; at the start, rows after the present step, which will be trained again, are dropped.

    Args:
        path (Path): Ends with ``.csv`` or ``.jsonl``.
        key (str): The column that counts: ``'iter'`` or ``'epoch'``.
        done (int): Completed steps. At 0 an older file of the name is kept under another one.
        stamp (str): Goes into the name of that older file.

    Raises:
        ValueError: If the format is not known.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), 'losses.csv')
        >>> rows = ScalarFile(path, 'iter', done=0, stamp='')
        >>> rows.append({'iter': 50, 'loss': 2.5})
        >>> rows.append({'iter': 100, 'loss': 2.25, 'loss_aux': 0.5})
        >>> print(path.read_text())
        iter,loss,loss_aux
        50,2.5,
        100,2.25,0.5
        <BLANKLINE>
    """

    def __init__(self, path: Path, key: str, done: int, stamp: str) -> None:
        check_format(path.name)
        self.path = path
        self.key = key
        self._columns: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if done:
                self._rewrite(row for row in self._rows() if _count(row.get(key)) <= done)
            else:
                os.replace(path, path.with_name(f'{path.stem}.before_{stamp}{path.suffix}'))

    def append(self, row: Mapping[str, float]) -> None:
        """Write one row; a name that is new becomes a column, empty in the rows before."""
        new = [name for name in row if name not in self._columns]
        if new and self.path.suffix == '.csv':
            rows = list(self._rows()) if self._columns else []
            self._columns += new
            self._rewrite(rows)
        with open(self.path, 'a', encoding='utf-8', newline='') as file:
            self._write(file, [row])

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        with open(self.path, encoding='utf-8', newline='') as file:
            if self.path.suffix == '.csv':
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or [])
                # A row that a killed process did not finish lacks cells.
                yield from (row for row in reader if None not in row.values())
                return
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    # The last line of a process that was killed.
                    continue

    def _rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        temporary = self.path.with_name(f'.{self.path.name}.tmp')
        kept = list(rows)
        with open(temporary, 'w', encoding='utf-8', newline='') as file:
            if self.path.suffix == '.csv' and self._columns:
                csv.writer(file, lineterminator='\n').writerow(self._columns)
            self._write(file, kept)
        os.replace(temporary, self.path)

    def _write(self, file: Any, rows: Iterable[Mapping[str, Any]]) -> None:
        if self.path.suffix == '.csv':
            csv.DictWriter(file, self._columns, restval='', extrasaction='ignore', lineterminator='\n').writerows(rows)
            return
        for row in rows:
            # JSON knows no NaN.
            plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            file.write(json.dumps(plain) + '\n')


def check_format(name: str) -> None:
    """Refuse a file name of another format.

    Raises:
        ValueError: If it does not end with ``.csv`` or ``.jsonl``.
    """
    if not name.endswith(FORMATS):
        raise ValueError(f'file must end with .csv or .jsonl, but got {name!r}.')


def _count(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.inf
