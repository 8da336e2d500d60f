"""How the work of a streamed text grows with its length, beside stock coqui-tts in the same run.

Full XTTS-v2 shape, random weights, so that a generation has as many audio tokens as it is told.
Stock vocodes all latents so far anew at each chunk of 20 tokens, so a generation's work grows with
the square of its length. A generation has at most 605 tokens, 28 s, and a text of more than 250
characters is spoken in pieces, by stock as by ours: therefore two tables, one of texts in pieces
(the same ones for both) and one of single generations.

Ours is measured at each length. Stock speaks one long generation, whose clock is read at every
chunk: up to a chunk it has done just what it does for a generation that ends there, but for
vocoding that chunk once more at the end, which is added. A text in pieces costs it the sum of its
pieces. One short generation is measured by itself too, to show that the sums are right.

    python -m benchmarks.growth
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from app.engine.scheduler import Scheduler
from app.engine.types import (
    AudioChunk,
    Conditioning,
    DecodeOptions,
    SegmentJob,
    SpeechModel,
)
from benchmarks.full_shape import make_stock
from benchmarks.stock_parity import TOKEN_IDS, FixedText, make_fast, make_voice
from benchmarks.stopwatch import Stopwatch
from benchmarks.tables import print_table

STOCK_CHUNK = 20
#: Pieces, in audio tokens, of texts of about 5, 10, 20, 30 and 60 s: as many as 250 characters make
#: necessary at 15 characters a second, of equal lengths, in whole chunks of stock's.
TEXTS = ((100,), (220,), (220,) * 2, (320,) * 2, (320,) * 4)
GENERATIONS = (100, 220, 440, 600)


@dataclass(frozen=True)
class Streamed:
    """A streamed text: seconds until its first audio and its end, and how much audio came."""

    first_s: float
    total_s: float
    audio_s: float


@dataclass
class StockGeneration:
    """The chunks of one streamed generation of stock's, each list with one entry per chunk."""

    #: audio tokens so far
    tokens: list[int] = field(default_factory=list)
    #: seconds since the request
    elapsed_s: list[float] = field(default_factory=list)
    #: seconds of these in the vocoder
    vocoder_s: list[float] = field(default_factory=list)

    def cost(self, num_tokens: int) -> tuple[float, float]:
        """Returns the seconds of a generation that ends at a chunk, and those in the vocoder."""
        place = self.tokens.index(num_tokens)
        # at its end stock vocodes everything once more
        before = self.vocoder_s[place - 1] if place else 0.0
        again = self.vocoder_s[place] - before
        return self.elapsed_s[place] + again, self.vocoder_s[place] + again


def stream_ours(model: SpeechModel, voice: Conditioning, pieces: Sequence[int]) -> Streamed:
    """Speaks a text of these pieces, each of so many audio tokens, as one request."""
    began = time.perf_counter()
    scheduler = Scheduler(model)
    for index, num_tokens in enumerate(pieces):
        options = DecodeOptions(greedy=True, max_tokens=num_tokens)
        job = SegmentJob(str(index), TOKEN_IDS, voice, options, priority=index, group="text")
        scheduler.submit(job)
    first_s, num_samples = math.nan, 0
    while not scheduler.is_idle:
        for event in scheduler.step():
            if isinstance(event, AudioChunk):
                # a later piece may not be heard before the first one
                if math.isnan(first_s) and event.job_id == "0":
                    first_s = time.perf_counter() - began
                num_samples += len(event.samples)
    return Streamed(first_s, time.perf_counter() - began, num_samples / model.sample_rate)


def stream_stock(
    stock: Any, voice: Conditioning, num_tokens: int, num_chunks: int | None = None
) -> StockGeneration:
    """Streams one generation of stock's; stops listening after `num_chunks`."""
    made, watch = StockGeneration(), Stopwatch()
    hook = stock.hifigan_decoder.register_forward_pre_hook(
        lambda _, latents: made.tokens.append(latents[0].shape[1])
    )
    with watch.on(stock.hifigan_decoder, "forward", "vocoder"):
        began = time.perf_counter()
        chunks = stock.inference_stream(
            "any",
            "en",
            voice.gpt_latents,
            voice.speaker_embedding,
            stream_chunk_size=STOCK_CHUNK,
            do_sample=False,
            max_new_tokens=num_tokens,
        )
        for index, _ in enumerate(chunks, 1):
            made.elapsed_s.append(time.perf_counter() - began)
            made.vocoder_s.append(watch.seconds["vocoder"])
            if index == num_chunks:
                break
    hook.remove()
    return made


@dataclass(frozen=True)
class Growth:
    """What was found; all rows are for people and for pictures alike."""

    threads: int
    runs: int
    texts: list[dict[str, float | str]]
    generations: list[dict[str, float | str]]
    first_audio_s: float
    stock_first_audio_s: float
    stock_check: dict[str, float]
    exponents: dict[str, float]


def measure(
    stock: Any,
    model: SpeechModel,
    voice: Conditioning,
    texts: Sequence[Sequence[int]] = TEXTS,
    generations: Sequence[int] = GENERATIONS,
    runs: int = 3,
    first_runs: int = 5,
) -> Growth:
    """Measures both, in one process with the same threads.

    Args:
        stock: stock's model, which must never stop by itself.
        model: ours, on the same weights.
        voice: who speaks.
        texts: pieces of each text, in audio tokens; whole chunks of stock's.
        generations: audio tokens of single generations, likewise.
        runs: of ours at each length; the median counts.
        first_runs: of each for the time to first audio, in turn.
    """
    stream_ours(model, voice, texts[0])
    stream_stock(stock, voice, STOCK_CHUNK, 1)
    firsts, stock_firsts = [], []
    for _ in range(first_runs):
        firsts.append(stream_ours(model, voice, [STOCK_CHUNK]).first_s)
        stock_firsts.append(stream_stock(stock, voice, generations[0], 1).elapsed_s[0])
    check = stream_stock(stock, voice, generations[0])
    print("stock's long generation, which takes minutes ...", flush=True)
    longest = stream_stock(stock, voice, max(generations))
    ours: dict[tuple[int, ...], list[Streamed]] = {}
    for _ in range(runs):
        for pieces in dict.fromkeys([*map(tuple, texts), *((each,) for each in generations)]):
            ours.setdefault(pieces, []).append(stream_ours(model, voice, pieces))
    text_rows = [_row(pieces, ours[tuple(pieces)], longest) for pieces in texts]
    generation_rows = [_row([each], ours[(each,)], longest) for each in generations]
    return Growth(
        threads=torch.get_num_threads(),
        runs=runs,
        texts=text_rows,
        generations=generation_rows,
        first_audio_s=statistics.median(firsts),
        stock_first_audio_s=statistics.median(stock_firsts),
        stock_check={
            "tokens": generations[0],
            "measured_s": check.elapsed_s[-1],
            "summed_s": longest.cost(generations[0])[0],
        },
        exponents={
            f"{kind}_{name}": _exponent(rows, key)
            for kind, rows in (("texts", text_rows), ("generations", generation_rows))
            for name, key in (("ours", "ours_s"), ("stock", "stock_s"))
        },
    )


def _row(
    pieces: Sequence[int], ours: Sequence[Streamed], stock: StockGeneration
) -> dict[str, float | str]:
    audio_s = ours[0].audio_s
    totals = [each.total_s for each in ours]
    ours_s = statistics.median(totals)
    costs = [stock.cost(each) for each in pieces]
    stock_s, vocoder_s = (sum(part) for part in zip(*costs, strict=True))
    return {
        "pieces": f"{len(pieces)} x {pieces[0]}",
        "audio_s": audio_s,
        "ours_first_s": statistics.median(each.first_s for each in ours),
        "ours_s": ours_s,
        "ours_min_s": min(totals),
        "ours_max_s": max(totals),
        "ours_per_s": ours_s / audio_s,
        "stock_s": stock_s,
        "stock_vocoder_s": vocoder_s,
        "stock_per_s": stock_s / audio_s,
        "ratio": stock_s / ours_s,
    }


def _exponent(rows: Sequence[dict[str, Any]], key: str) -> float:
    """Returns p where the work grows from the first row to the last as length to the power p."""
    first, last = rows[0], rows[-1]
    return math.log(last[key] / first[key]) / math.log(last["audio_s"] / first["audio_s"])


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of ours at each length")
    parser.add_argument("--longest", type=int, default=GENERATIONS[-1], help="tokens, at least 320")
    options = parser.parse_args()
    stock = make_stock()
    stock.tokenizer = FixedText(TOKEN_IDS)
    stock.gpt.init_gpt_for_inference()
    stock.gpt.eval()
    model, formats = make_fast(stock.state_dict())
    generations = [each for each in GENERATIONS if each < options.longest] + [options.longest]
    found = measure(stock, model, make_voice(), generations=generations, runs=options.runs)
    print_table("texts, in pieces of so many audio tokens", found.texts)
    print_table("single generations", found.generations)
    print(f"\nfirst audio: {found.first_audio_s:.2f} s, stock {found.stock_first_audio_s:.2f} s")
    print(json.dumps({"formats": str(formats), **asdict(found)}))


if __name__ == "__main__":
    main()
