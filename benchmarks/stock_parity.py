"""One request on our engine and on stock coqui, at XTTS-v2's full shape, on the same weights.

Random weights are enough: the tokens must be the same, the sound equal within 1e-3 of its peak, and
the work is that of the real model. Ours runs twice: in float32, whose tokens are compared, and in
the formats that `PRECISION=auto` takes here, for time alone. All three in turn, as often as wanted.
Stock's request is decoding, a second pass of the GPT for the latents, and the vocoder; ours is the
same request through the scheduler, streamed. Prints a table and, last, one JSON line.

    python -m benchmarks.stock_parity --tokens 129 --runs 5
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.engine.formats import Formats, choose_cpu_formats
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
from benchmarks.full_shape import XTTS_V2_ARGS, make_stock, make_voice_tensors
from benchmarks.stopwatch import Stopwatch
from benchmarks.tables import print_table

TOKEN_IDS = tuple(range(20, 40)) * 2  # a sentence of about 120 characters
REPETITION_PENALTY = 10.0

Speech = tuple[list[int], NDArray[np.float32]]


@dataclass(frozen=True)
class Times:
    """The runs of one side: median and extremes in seconds, and the median of each stage."""

    median_s: float
    min_s: float
    max_s: float
    s_per_audio_s: float
    stages_s: dict[str, float]


@dataclass(frozen=True)
class Result:
    """What the comparison gave."""

    tokens: int
    runs: int
    threads: int
    tokens_equal: bool
    max_relative_difference: float
    audio_s: float
    precision: str
    stock: Times
    float32: Times
    fast: Times
    float32_ratio: float
    fast_ratio: float


@dataclass(frozen=True)
class FixedText:
    """Stands where stock has its tokenizer, and gives the same ids for any text."""

    token_ids: tuple[int, ...]

    def encode(self, text: str, lang: str) -> list[int]:  # noqa: ARG002
        """Returns the ids."""
        return list(self.token_ids)


def make_voice(dim: int = 1024) -> Conditioning:
    """Returns the made-up voice, with latents of this width."""
    tensors = make_voice_tensors(dim)
    return Conditioning(tensors["gpt_cond_latent"], tensors["speaker_embedding"])


def make_fast(state: Mapping[str, torch.Tensor]) -> tuple[SpeechModel, Formats]:
    """Returns a full-shape model in the formats that `PRECISION=auto` takes here, and those."""
    formats = choose_cpu_formats("auto", matrix_bytes(state))
    parts = quantise_state(state) if formats.gpt == "int8" else {}
    model = SpeechModel.from_state_dict({**state, **parts}, XTTS_V2_ARGS, formats=formats)
    return model, formats


def speak_stock(stock: Any, voice: Conditioning, num_tokens: int, watch: Stopwatch) -> Speech:
    """Runs `Xtts.inference`; returns the tokens it drew and its samples."""
    codes: list[torch.Tensor] = []
    generate = stock.gpt.generate

    def generate_and_keep(*args: Any, **kwargs: Any) -> torch.Tensor:
        with watch("decode"):
            codes.append(generate(*args, **kwargs))
        return codes[-1]

    stock.gpt.generate = generate_and_keep
    try:
        with (
            watch.on(stock.gpt, "forward", "second pass"),
            watch.on(stock.hifigan_decoder, "forward", "vocoder"),
        ):
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
    model: SpeechModel, voice: Conditioning, num_tokens: int, watch: Stopwatch
) -> Speech:
    """Runs one job through the scheduler, streamed; returns its tokens and its samples."""
    options = DecodeOptions(
        greedy=True, repetition_penalty=REPETITION_PENALTY, max_tokens=num_tokens
    )
    scheduler = Scheduler(model, watch=watch)
    scheduler.submit(SegmentJob("one", TOKEN_IDS, voice, options))
    tokens: list[int] = []
    chunks = []
    while not scheduler.is_idle:
        for event in scheduler.step():
            if isinstance(event, AudioChunk):
                chunks.append(event.samples)
            elif isinstance(event, SegmentDone):
                tokens = list(event.tokens)
    return tokens, np.concatenate(chunks)


class Side:
    """One of those compared: says the sentence, and keeps how long each run took."""

    def __init__(self, name: str, speak: Callable[[Stopwatch], Speech]) -> None:
        self.name = name
        self._speak = speak
        self._runs: list[dict[str, float]] = []

    def run(self, *, is_counted: bool) -> Speech:
        """Says the sentence once."""
        watch = Stopwatch()
        with watch("all"):
            speech = self._speak(watch)
        if is_counted:
            self._runs.append(watch.seconds)
        return speech

    def times(self, audio_s: float) -> Times:
        """Returns the figures over all runs, each of `audio_s` seconds of audio."""
        stages = {key: [run[key] for run in self._runs] for key in self._runs[0]}
        totals = stages.pop("all")
        return Times(
            median_s=statistics.median(totals),
            min_s=min(totals),
            max_s=max(totals),
            s_per_audio_s=statistics.median(totals) / audio_s,
            stages_s={key: statistics.median(each) for key, each in stages.items()},
        )


def compare(
    stock: Any, model: SpeechModel, fast: SpeechModel, precision: str, num_tokens: int, runs: int
) -> Result:
    """Runs all three in turn, and compares tokens, samples and times.

    Args:
        stock: stock's model.
        model: ours in float32, on the same weights.
        fast: ours in other formats.
        precision: what those are called.
        num_tokens: audio tokens of the request.
        runs: of each; the first of all, which warms up, is not counted.
    """
    voice = make_voice(model.latent_dim)
    ours = [
        Side(name, partial(speak_ours, each, voice, num_tokens))
        for name, each in (("float32", model), ("fast", fast))
    ]
    sides = [Side("stock", partial(speak_stock, stock, voice, num_tokens)), *ours]
    spoken: dict[str, Speech] = {}
    for turn in range(runs + 1):
        for side in sides:
            spoken[side.name] = side.run(is_counted=turn > 0)
    (stock_tokens, wave), (tokens, samples) = spoken["stock"], spoken["float32"]
    num = min(len(wave), len(samples))
    audio_s = len(samples) / model.sample_rate
    times = {side.name: side.times(audio_s) for side in sides}
    return Result(
        tokens=num_tokens,
        runs=runs,
        threads=torch.get_num_threads(),
        tokens_equal=tokens == stock_tokens and len(samples) >= len(wave),
        max_relative_difference=float(
            np.abs(samples[:num] - wave[:num]).max() / np.abs(wave).max()
        ),
        audio_s=audio_s,
        precision=precision,
        **times,
        float32_ratio=times["stock"].median_s / times["float32"].median_s,
        fast_ratio=times["stock"].median_s / times["fast"].median_s,
    )


def main() -> None:
    """Reads the options, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=129, help="audio tokens of the request")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; medians are taken")
    options = parser.parse_args()
    stock = make_stock()
    stock.tokenizer = FixedText(TOKEN_IDS)
    stock.gpt.init_gpt_for_inference()
    stock.gpt.eval()
    model = SpeechModel.from_state_dict(stock.state_dict(), XTTS_V2_ARGS)
    fast, formats = make_fast(stock.state_dict())
    result = compare(stock, model, fast, str(formats), options.tokens, options.runs)
    found = asdict(result)
    sides = {name: found[name] for name in ("stock", "float32", "fast")}
    print_table("one request", [_row(name, times) for name, times in sides.items()])
    for name, value in found.items():
        if name not in sides:
            print(
                f"{name:>24}  {value:.6g}" if isinstance(value, float) else f"{name:>24}  {value}"
            )
    print(json.dumps(found))


def _row(name: str, times: dict[str, Any]) -> dict[str, Any]:
    stages = (f"{stage} {seconds:.2f}" for stage, seconds in times["stages_s"].items())
    plain = {key: value for key, value in times.items() if key != "stages_s"}
    return {"side": name, **plain, "stages_s": ", ".join(stages)}


if __name__ == "__main__":
    main()
