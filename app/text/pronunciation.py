"""gruut with a lexicon that is looked up by an index.

gruut's database has none, so each word that it has not met, or does not know, costs a walk through
125,000 entries: 5 ms, and 60 to 100 for a sentence, where it is 4 now. The database is copied into
memory once for each thread (17 MB, a tenth of a second) and gets an index there. Knows nothing of
symbols.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

_LOCAL = threading.local()  # a connection of SQLite's belongs to the thread that made it


def read_words(text: str, gruut_language: str) -> Iterator[Any]:
    """Yields gruut's words of a text, with their phonemes.

    Args:
        text: to be read aloud.
        gruut_language: `en-us`.
    """
    processor = _processor(gruut_language)
    graph, root = processor(text, lang=gruut_language)
    for sentence in processor.sentences(graph, root):
        yield from sentence


def _processor(gruut_language: str) -> Any:
    processors = _LOCAL.__dict__.setdefault("processors", {})
    if gruut_language not in processors:
        processors[gruut_language] = _make_processor(gruut_language)
    return processors[gruut_language]


def _make_processor(gruut_language: str) -> Any:
    from gruut import TextProcessor
    from gruut.phonemize import SqlitePhonemizer

    processor = TextProcessor(default_lang=gruut_language)
    # its own lookup opens the database when it is first asked; here it finds one opened
    lookup: Any = processor.get_settings(gruut_language).lookup_phonemes
    lookup.phonemizer = SqlitePhonemizer(
        db_conn=open_indexed(lookup.db_path), **lookup.phonemizer_args
    )
    return processor


def open_indexed(database: Path) -> sqlite3.Connection:
    """Returns a copy of gruut's lexicon in memory, whose words are found by an index."""
    copy = sqlite3.connect(":memory:")
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as source:
        source.backup(copy)
    copy.execute("CREATE INDEX words ON word_phonemes (word, pron_order)")
    return copy
