"""The real XTTS vocabulary of the test data, filled up to the languages of XTTS-v2."""

from __future__ import annotations

import json
from pathlib import Path

VOCAB = Path(__file__).parents[1] / "data" / "xtts-vocab.json"

#: Letters of Hungarian and Hindi, which version 1.1 of the vocabulary lacks.
_NEW_LETTERS = [*"őű", *(chr(code) for code in range(0x0901, 0x0966))]


def write_full_vocab(file: Path) -> Path:
    """Writes the vocabulary with tokens for hu, ko and hi and their letters; returns the file."""
    data = json.loads(VOCAB.read_text(encoding="utf-8"))
    vocab: dict[str, int] = data["model"]["vocab"]
    next_id = max(vocab.values()) + 1
    new_tokens = ["[hu]", "[ko]", "[hi]", *_NEW_LETTERS]
    for offset, token in enumerate(token for token in new_tokens if token not in vocab):
        vocab[token] = next_id + offset
        if token.startswith("["):
            special = data["added_tokens"][-1]
            data["added_tokens"].append({**special, "id": next_id + offset, "content": token})
    file.write_text(json.dumps(data), encoding="utf-8")
    return file
