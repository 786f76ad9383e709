"""One row per claim: what was measured, beside its bar and beside a peer or a ceiling of the same run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A figure with its bar. `least` tells whether the bar is a floor; a peer is what else ran in the same minute."""

    work: str
    figure: float
    unit: str
    bar: float | None = None
    least: bool = True
    note: str = ""
    peer: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        return self.figure >= self.bar if self.least else self.figure <= self.bar


def show(rows: list[Row]) -> None:
    """Print the rows as one table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("work", "measured", "bar", "", "beside it in this run", "note"):
        table.add_column(name, justify="right" if name in ("measured", "bar") else "left")
    for row in rows:
        sign = {None: "", True: "met", False: "[red]missed[/red]"}[row.met]
        bar = "" if row.bar is None else f"{'>=' if row.least else '<='} {_number(row.bar)} {row.unit}"
        table.add_row(row.work, f"{_number(row.figure)} {row.unit}", bar, sign, row.peer, row.note)
    Console(width=200).print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def keep(rows: list[Row], folder: Path) -> Path:
    """Write the rows as JSON; gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "latest.json"
    file.write_text(json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=2) + "\n")
    return file
