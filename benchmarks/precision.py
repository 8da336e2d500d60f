"""What smaller number formats cost in accuracy, on the built-in voice, against float32.

Teacher-forced: both read the tokens that float32 drew, and their logits are compared at each step
(agreement of the likeliest token, Kullback-Leibler divergence in nats). Vocoder: the same latents,
log-mel distance and signal to noise. Then whole sentences in each format: the words a recogniser
gets back, and their durations. Prints a table and, last, one JSON line.

    python -m benchmarks.precision --sentences 20
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchaudio

from app.engine.batch_decoder import BatchDecoder
from app.engine.decoder import GptDecoder
from app.engine.formats import Formats, uniform_formats
from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentDone, SegmentJob
from app.engine.vocoder import Vocoder
from app.models.bundles import find_bundle
from app.models.loading import LoadedModel, load_model
from app.settings import Settings
from app.text.plan import plan_segments
from benchmarks.load import SENTENCES
from train.scores import ErrorCount, word_errors
from train.transcribe import PocketSphinx

FORMATS = {
    "float32": uniform_formats(torch.float32),
    "bfloat16": uniform_formats(torch.bfloat16),
    "int8, cache float32": Formats("int8", torch.float32, torch.float32, ""),
    "int8, cache bfloat16": Formats("int8", torch.bfloat16, torch.bfloat16, ""),
}
Row = dict[str, Any]


def load(formats: Formats, model: str) -> LoadedModel:
    """Loads a model in these formats."""
    return load_model(find_bundle(model, Settings()), formats=lambda _: formats)


def text_tokens(model: LoadedModel, text: str) -> tuple[int, ...]:
    """Returns the tokens of a sentence that is one segment."""
    (segment,) = plan_segments(
        text,
        language="en",
        tokenizer=model.tokenizer,
        supported=model.languages,
        default_language="en",
        max_tokens=model.max_text_tokens,
        is_sayable=lambda *_: True,
    )
    return segment.token_ids


def speak(model: LoadedModel, text: str, seed: int) -> tuple[tuple[int, ...], np.ndarray]:
    """Returns the audio tokens and samples of a sentence in the model's own sampling."""
    sampling = model.sampling
    options = DecodeOptions(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        seed=seed,
    )
    scheduler = Scheduler(model.speech)
    voice = model.voices[model.default_voice]
    scheduler.submit(SegmentJob("a", text_tokens(model, text), voice, options))
    tokens: tuple[int, ...] = ()
    chunks = []
    while not scheduler.is_idle:
        for event in scheduler.step():
            if isinstance(event, AudioChunk):
                chunks.append(event.samples)
            elif isinstance(event, SegmentDone):
                tokens = event.tokens
    return tokens, np.concatenate(chunks)


def force(
    model: LoadedModel, text: str, tokens: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits [n, audio tokens] and latents [n, D] where these tokens are read."""
    speech = model.speech
    pooled = speech.gpt.is_int8
    decoder: Any = (
        BatchDecoder(speech.gpt, speech.cache_dtype, 1) if pooled else GptDecoder(speech.gpt)
    )
    voice = model.voices[model.default_voice]
    row, output = decoder.prefill(text_tokens(model, text), voice.gpt_latents)
    logits, latents = [output.logits], [output.latents]
    for token in tokens[:-1]:
        output = decoder.step([row], [token])
        logits.append(output.logits)
        latents.append(output.latents)
    return torch.cat(logits).float(), torch.cat(latents).float()


def compare_logits(exact: torch.Tensor, other: torch.Tensor) -> Row:
    """Returns agreement and divergence of logits [n, audio tokens], over all steps."""
    wanted, given = exact.log_softmax(-1), other.log_softmax(-1)
    divergence = (wanted.exp() * (wanted - given)).sum(-1)
    return {
        "top1_agreement": float((exact.argmax(-1) == other.argmax(-1)).float().mean()),
        "kl_mean": float(divergence.mean()),
        "kl_p99": float(divergence.quantile(0.99)),
    }


def compare_vocoders(exact: LoadedModel, other: LoadedModel, latents: torch.Tensor) -> Row:
    """Returns the distance of the vocoders' sounds of latents [n, D]."""
    voice = exact.voices[exact.default_voice].speaker_embedding
    wanted, given = (
        Vocoder(model.speech.vocoder).stream(voice).push(latents, is_last=True)
        for model in (exact, other)
    )
    noise = (wanted - given).square().mean().clamp(min=1e-12)
    mel = torchaudio.transforms.MelSpectrogram(exact.sample_rate, 1024, hop_length=256, n_mels=80)
    spectra = [mel(sound).clamp(min=1e-5).log() for sound in (wanted, given)]
    return {
        "vocoder_snr_db": float(10 * torch.log10(wanted.square().mean() / noise)),
        "vocoder_log_mel": float((spectra[0] - spectra[1]).abs().mean()),
    }


def measure(name: str, model_name: str, num_sentences: int) -> list[Row]:
    """Compares every format with float32 over some sentences."""
    texts = [SENTENCES[index % len(SENTENCES)] for index in range(num_sentences)]
    exact = load(FORMATS["float32"], model_name)
    drawn = [speak(exact, text, seed)[0] for seed, text in enumerate(texts)]
    forced = [force(exact, text, tokens) for text, tokens in zip(texts, drawn, strict=True)]
    logits = torch.cat([each for each, _ in forced])
    recogniser = PocketSphinx()
    rows = []
    for kind, formats in FORMATS.items():
        if name and name not in kind:
            continue
        model = load(formats, model_name)
        again = [force(model, text, tokens)[0] for text, tokens in zip(texts, drawn, strict=True)]
        spoken = [speak(model, text, seed)[1] for seed, text in enumerate(texts)]
        errors = ErrorCount(0, 0)
        for text, samples in zip(texts, spoken, strict=True):
            errors += word_errors(text, recogniser.transcribe(samples, model.sample_rate))
        rows.append(
            {
                "formats": kind,
                "steps": len(logits),
                **compare_logits(logits, torch.cat(again)),
                **compare_vocoders(exact, model, forced[0][1]),
                "wer": errors.rate,
                "mean_s": statistics.mean(len(each) / model.sample_rate for each in spoken),
            }
        )
    return rows


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--formats", default="", help="only formats with this in their name")
    parser.add_argument("--model", default="builtin")
    options = parser.parse_args()
    rows = measure(options.formats, options.model, options.sentences)
    for key in rows[0]:
        cells = (row[key] for row in rows)
        texts = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        print(f"{key:>16}" + "".join(f"{text:>24}" for text in texts))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
