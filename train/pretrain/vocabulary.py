"""The text vocabulary of a recipe: one token for each phoneme symbol.

Written in the format of the tokenizers library, as stock XTTS reads it: `[STOP]` `[UNK]`
`[SPACE]` `[START]` and the language token first, then symbols; symbols of several characters
are merges, so plain encoding of a phoneme string gives one token for each symbol.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer  # type: ignore[import-untyped]

from app.files import write_atomic
from app.text.phonemes import split_symbols

STOP, UNKNOWN, SPACE, START = 0, 1, 2, 3
_SPECIAL = ("[STOP]", "[UNK]", "[SPACE]", "[START]")


def write_vocabulary(path: Path, phonemes: Iterable[str], language: str) -> None:
    """Writes `vocab.json` with every symbol that occurs in `phonemes`."""
    symbols = {symbol for text in phonemes for symbol in split_symbols(text)} - {" "}
    characters = sorted({character for symbol in symbols for character in symbol})
    # Shorter compounds first: "ˈaɪ" is made of "ˈ" and "aɪ", which must exist by then.
    compounds = sorted((s for s in symbols if len(s) > 1), key=lambda s: (len(s), s))
    merges: list[tuple[str, str]] = []
    tokens = list(characters)
    for symbol in compounds:
        if symbol[0] == "ˈ" and len(symbol) == 3 and symbol[1:] not in tokens:
            tokens.append(symbol[1:])
            merges.append((symbol[1], symbol[2]))
        tokens.append(symbol)
        split = 1
        merges.append((symbol[:split], symbol[split:]))
    merges.sort(key=lambda pair: (pair[0] == "ˈ", len(pair[1])))
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, f"[{language}]", *tokens])}
    added = [
        {
            "id": vocabulary[token],
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in (*_SPECIAL, f"[{language}]")
    ]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "[UNK]",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "vocab": vocabulary,
        "merges": [" ".join(pair) for pair in merges],
    }
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": model,
    }
    write_atomic(path, json.dumps(content, ensure_ascii=False, indent=1).encode())


class PhonemeVocabulary:
    """Encodes phoneme strings with a `vocab.json`."""

    def __init__(self, path: Path, language: str) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._language = language
        self.num_tokens: int = self._tokenizer.get_vocab_size()

    def encode(self, phonemes: str) -> list[int]:
        """Returns the language token and one id for each symbol."""
        marked = f"[{self._language}]{phonemes.replace(' ', '[SPACE]')}"
        ids: list[int] = self._tokenizer.encode(marked).ids
        return ids
