"""A checkpoint of our fine-tuning in coqui-tts: whether it loads there and says the same.

    python -m benchmarks.training_checkpoint checkpoint_epoch_1.pt

Greedy, on both engines in float32. Prints a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from app.engine.types import SpeechModel
from app.models.config import read_json
from benchmarks.stock_parity import FixedText, make_voice, speak_ours, speak_stock

_NUM_TOKENS = 32
_TEXT = tuple(range(300, 340))


def load_stock(path: Path) -> Any:
    """Returns stock's model of a checkpoint, loaded as its users do (with `weights_only`)."""
    from TTS.tts.configs.xtts_config import XttsConfig
    from TTS.tts.models.xtts import Xtts

    config = XttsConfig()
    config.load_json(str(path.parent / "config.json"))
    model = Xtts(config)
    model.load_checkpoint(
        config, checkpoint_path=str(path), vocab_path=str(path.parent / "vocab.json")
    )
    return model


def compare(path: Path) -> dict[str, object]:
    """Speaks with both and compares tokens and samples."""
    started = time.perf_counter()
    stock = load_stock(path)
    load_s = time.perf_counter() - started
    stock.tokenizer = FixedText(_TEXT)
    voice = make_voice(stock.gpt.model_dim)
    stock_tokens, wave = speak_stock(stock, voice, _NUM_TOKENS)
    state = stock.state_dict()
    ours = SpeechModel.from_state_dict(state, read_json(path.parent / "config.json")["model_args"])
    tokens, samples = speak_ours(ours, _TEXT, voice, _NUM_TOKENS)
    num = min(len(wave), len(samples))
    return {
        "checkpoint_bytes": path.stat().st_size,
        "stock_load_s": load_s,
        "tokens": len(tokens),
        "different_tokens": len(set(tokens)),
        "tokens_equal": tokens == stock_tokens,
        "max_relative_difference": float(
            np.abs(samples[:num] - wave[:num]).max() / np.abs(wave).max()
        ),
    }


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]))))
