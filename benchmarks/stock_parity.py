"""One request on our engine and on stock coqui, at XTTS-v2's full shape, on the same weights.

Random weights are enough: the tokens must be the same, the sound equal within 1e-3 of its peak, and
the work is that of the real model. Prints a table and, last, one JSON line.

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

from app.engine.scheduler import Scheduler
from app.engine.types import (
    AudioChunk,
    Conditioning,
    DecodeOptions,
    SegmentDone,
    SegmentJob,
    SpeechModel,
)

# config.json of XTTS-v2 as coqui published it; what is absent is stock's default
XTTS_V2_ARGS = {
    "gpt_layers": 30,
    "gpt_n_model_channels": 1024,
    "gpt_n_heads": 16,
    "gpt_number_text_tokens": 6681,
    "gpt_start_text_token": 261,
    "gpt_stop_text_token": 0,
    "gpt_num_audio_tokens": 1026,
    "gpt_start_audio_token": 1024,
    "gpt_stop_audio_token": 1025,
    "gpt_use_perceiver_resampler": True,
}
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
    ours_s: float
    ratio: float
    stock_s_per_audio_s: float
    ours_s_per_audio_s: float


@dataclass(frozen=True)
class FixedText:
    """Stands where stock has its tokenizer, and gives the same ids for any text."""

    token_ids: tuple[int, ...]

    def encode(self, text: str, lang: str) -> list[int]:  # noqa: ARG002
        """Returns the ids."""
        return list(self.token_ids)


def make_stock(token_ids: tuple[int, ...]) -> Any:
    """Returns stock's model at full shape with random weights that never stop by themselves."""
    from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
    from TTS.tts.models.xtts import Xtts

    torch.manual_seed(0)
    model = Xtts(XttsConfig(model_args=XttsArgs(**XTTS_V2_ARGS)))
    with torch.no_grad():
        model.gpt.mel_embedding.weight.normal_(std=0.1)
        model.gpt.mel_head.bias[model.gpt.stop_audio_token] = -100
        model.hifigan_decoder.waveform_decoder.conv_post.weight.mul_(20)
    model.tokenizer = FixedText(token_ids)
    model.eval()
    return model


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
    stock = make_stock(token_ids)
    model = SpeechModel.from_state_dict(stock.state_dict(), XTTS_V2_ARGS)
    voice = make_voice(model.latent_dim)
    speak_ours(model, token_ids, voice, 4)
    speak_stock(stock, voice, 4)
    stock_times, our_times = [], []
    for _ in range(runs):
        seconds, (stock_tokens, wave) = _timed(lambda: speak_stock(stock, voice, num_tokens))
        stock_times.append(seconds)
        seconds, (tokens, samples) = _timed(lambda: speak_ours(model, token_ids, voice, num_tokens))
        our_times.append(seconds)
    num = min(len(wave), len(samples))
    audio_s = len(samples) / model.sample_rate
    stock_s, ours_s = statistics.median(stock_times), statistics.median(our_times)
    difference = float(np.abs(samples[:num] - wave[:num]).max() / np.abs(wave).max())
    return Result(
        tokens=num_tokens,
        runs=runs,
        threads=torch.get_num_threads(),
        tokens_equal=tokens == stock_tokens and len(samples) >= len(wave),
        max_relative_difference=difference,
        audio_s=audio_s,
        stock_s=stock_s,
        ours_s=ours_s,
        ratio=stock_s / ours_s,
        stock_s_per_audio_s=stock_s / audio_s,
        ours_s_per_audio_s=ours_s / audio_s,
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
