"""One request on our engine and on stock coqui, at XTTS-v2's full shape, on the same weights.

Random weights are enough: the tokens must be the same, the sound equal within 1e-3 of its peak, and
the work is that of the real model. Ours runs twice: in float32, whose tokens are compared, and in
the formats that `PRECISION=auto` takes here, for time alone. Prints a table and, last, one JSON
line.

    python -m benchmarks.stock_parity --tokens 64 --runs 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.engine.formats import choose_cpu_formats
from app.engine.gpt_weights import matrix_bytes, quantise_state
from app.engine.scheduler import Scheduler
from app.engine.types import (
    AudioChunk,
    Conditioning,
    DecodeOptions,
    SegmentDone,
    SegmentJob,
    SpeechModel,
)
from benchmarks.full_shape import XTTS_V2_ARGS, make_stock

NUM_TEXT_TOKENS = 40  # a sentence of about 120 characters
REPETITION_PENALTY = 10.0

Speech = tuple[list[int], NDArray[np.float32]]


@dataclass(frozen=True)
class Result:
    """What the comparison gave."""

    tokens: int
    runs: int
    threads: int
    tokens_equal: bool
    max_relative_difference: float
    audio_s: float
    stock_s: float
    float32_s: float
    fast_s: float
    fast_precision: str
    float32_ratio: float
    fast_ratio: float
    stock_s_per_audio_s: float
    float32_s_per_audio_s: float
    fast_s_per_audio_s: float


@dataclass(frozen=True)
class FixedText:
    """Stands where stock has its tokenizer, and gives the same ids for any text."""

    token_ids: tuple[int, ...]

    def encode(self, text: str, lang: str) -> list[int]:  # noqa: ARG002
        """Returns the ids."""
        return list(self.token_ids)


def make_voice(dim: int) -> Conditioning:
    """Returns a made-up voice."""
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(1, 512, 1, generator=generator)
    latents = torch.randn(1, 32, dim, generator=generator)
    return Conditioning(latents, embedding / embedding.norm())


def speak_stock(stock: Any, voice: Conditioning, num_tokens: int) -> Speech:
    """Runs `Xtts.inference`; returns the tokens it drew and its samples."""
    codes: list[torch.Tensor] = []
    generate = stock.gpt.generate

    def generate_and_keep(*args: Any, **kwargs: Any) -> torch.Tensor:
        codes.append(generate(*args, **kwargs))
        return codes[-1]

    stock.gpt.generate = generate_and_keep
    try:
        result = stock.inference(
            "any",
            "en",
            voice.gpt_latents,
            voice.speaker_embedding,
            do_sample=False,
            repetition_penalty=REPETITION_PENALTY,
            max_new_tokens=num_tokens,
        )
    finally:
        stock.gpt.generate = generate
    return codes[0][0].tolist(), result["wav"]


def speak_ours(
    model: SpeechModel, token_ids: tuple[int, ...], voice: Conditioning, num_tokens: int
) -> Speech:
    """Runs one job through the scheduler, streamed; returns its tokens and its samples."""
    options = DecodeOptions(
        greedy=True, repetition_penalty=REPETITION_PENALTY, max_tokens=num_tokens
    )
    scheduler = Scheduler(model)
    scheduler.submit(SegmentJob("one", token_ids, voice, options))
    tokens: list[int] = []
    chunks = []
    while not scheduler.is_idle:
        for event in scheduler.step():
            if isinstance(event, AudioChunk):
                chunks.append(event.samples)
            elif isinstance(event, SegmentDone):
                tokens = list(event.tokens)
    return tokens, np.concatenate(chunks)


def compare(num_tokens: int, runs: int) -> Result:
    """Runs both in turn, `runs` times, and compares tokens, samples and median times."""
    token_ids = tuple(range(300, 300 + NUM_TEXT_TOKENS))
    stock = make_stock()
    stock.tokenizer = FixedText(token_ids)
    stock.gpt.init_gpt_for_inference()
    stock.gpt.eval()
    state = stock.state_dict()
    model = SpeechModel.from_state_dict(state, XTTS_V2_ARGS)
    formats = choose_cpu_formats("auto", matrix_bytes(state))
    parts = quantise_state(state) if formats.gpt == "int8" else {}
    fast = SpeechModel.from_state_dict({**state, **parts}, XTTS_V2_ARGS, formats=formats)
    voice = make_voice(model.latent_dim)
    speak_stock(stock, voice, 4)
    for each in (model, fast):
        speak_ours(each, token_ids, voice, 4)
    stock_times, our_times, fast_times = [], [], []
    for _ in range(runs):
        seconds, (stock_tokens, wave) = _timed(lambda: speak_stock(stock, voice, num_tokens))
        stock_times.append(seconds)
        seconds, (tokens, samples) = _timed(lambda: speak_ours(model, token_ids, voice, num_tokens))
        our_times.append(seconds)
        seconds, _ = _timed(lambda: speak_ours(fast, token_ids, voice, num_tokens))
        fast_times.append(seconds)
    num = min(len(wave), len(samples))
    audio_s = len(samples) / model.sample_rate
    stock_s, float32_s, fast_s = map(statistics.median, (stock_times, our_times, fast_times))
    difference = float(np.abs(samples[:num] - wave[:num]).max() / np.abs(wave).max())
    return Result(
        tokens=num_tokens,
        runs=runs,
        threads=torch.get_num_threads(),
        tokens_equal=tokens == stock_tokens and len(samples) >= len(wave),
        max_relative_difference=difference,
        audio_s=audio_s,
        stock_s=stock_s,
        float32_s=float32_s,
        fast_s=fast_s,
        fast_precision=str(formats),
        float32_ratio=stock_s / float32_s,
        fast_ratio=stock_s / fast_s,
        stock_s_per_audio_s=stock_s / audio_s,
        float32_s_per_audio_s=float32_s / audio_s,
        fast_s_per_audio_s=fast_s / audio_s,
    )


def _timed(call: Callable[[], Speech]) -> tuple[float, Speech]:
    began = time.perf_counter()
    speech = call()
    return time.perf_counter() - began, speech


def main() -> None:
    """Reads the options, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=64, help="audio tokens of the request")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; medians are taken")
    options = parser.parse_args()
    result = compare(options.tokens, options.runs)
    for name, value in asdict(result).items():
        print(f"{name:>24}  {value:.6g}" if isinstance(value, float) else f"{name:>24}  {value}")
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
