"""What the data commands show at a terminal: progress while they work, tables when they are done.

Everything goes to stderr, so that stdout holds nothing but the line of JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from train.data.findings import RULES
from train.data.split import Split
from train.data.summary import Summary, rows_of, summarise
from train.data.validation import Validation

#: Clips named at the terminal; the report has them all.
_MOST_NAMED = 20


@contextmanager
def progress_bar(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """Yields a function that is told (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show


def show_validation(console: Console, validation: Validation, split: Split | None) -> None:
    """Shows the totals, the faults by kind, and the first clips that can't be used."""
    data, summary = validation.data, summarise(validation)
    console.print(f"Read as {escape(data.format)}: {escape(data.reason)}.", highlight=False)
    language = validation.language
    console.print(f"Language: {language.code} ({escape(language.reason)}).", highlight=False)
    for note in data.notes:
        console.print(f"Note: {escape(note)}", highlight=False)
    totals = Table(show_header=False, box=None)
    for name, value in summary.lines:
        totals.add_row(name, escape(value))
    console.print(totals)
    if summary.findings:
        console.print(_kinds(summary))
    _name_clips(console, validation)
    if validation.problem:
        console.print(f"[bold red]{escape(validation.problem)}")
    elif split:
        console.print(f"[bold green]{escape(split.summary)}")


def _kinds(summary: Summary) -> Table:
    table = Table("clips", "what", "", "remedy", title="Findings", title_justify="left")
    for kind, count in summary.findings.items():
        rule = RULES[kind]
        table.add_row(str(count), rule.title, "kept out" if rule.stops else "used", rule.remedy)
    return table


def _name_clips(console: Console, validation: Validation) -> None:
    rows = [row for row in rows_of(validation) if row["stops"]]
    for row in rows[:_MOST_NAMED]:
        console.print(f"  [bold]{escape(str(row['clip']))}[/]: {escape(str(row['says']))}")
    if len(rows) > _MOST_NAMED:
        console.print(f"  and {len(rows) - _MOST_NAMED} more; the report names them all")
