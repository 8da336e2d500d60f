"""What smaller number formats cost in accuracy, on the built-in voice, against float32.

Teacher-forced: both read the tokens that float32 drew, and their logits are compared at each step
(agreement of the likeliest token, Kullback-Leibler divergence in nats). Vocoder: the same latents,
log-mel distance and signal to noise. Then whole sentences in each format, with the same seeds: the
words a recogniser gets back, and their durations. A single other token changes all that are drawn
after it, so these differ by chance as well; the standard error of each difference, sentence by
sentence, says by how much. Prints a table and, last, one JSON line.

    python -m benchmarks.precision --sentences 100
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchaudio

from app.engine.batch_decoder import BatchDecoder
from app.engine.decoder import GptDecoder
from app.engine.formats import Formats, uniform_formats
from app.engine.native_decoder import NativeDecoder
from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, DecodeOptions, SegmentDone, SegmentJob
from app.engine.vocoder import Vocoder
from app.models.bundles import find_bundle
from app.models.loading import LoadedModel, load_model
from app.settings import Settings
from app.text.plan import plan_segments
from benchmarks.sentences import MOST, make_sentences
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


def speak(
    model: LoadedModel, voice_name: str, text: str, seed: int
) -> tuple[tuple[int, ...], np.ndarray]:
    """Returns the audio tokens and samples of a sentence in the model's own sampling."""
    sampling = model.sampling
    options = DecodeOptions(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        guidance_scale=sampling.guidance_scale,
        seed=seed,
    )
    scheduler = Scheduler(model.speech)
    voice = model.voices[voice_name]
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
    model: LoadedModel, voice_name: str, text: str, tokens: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits [n, audio tokens] and latents [n, D] where these tokens are read."""
    speech = model.speech
    decoder: Any = GptDecoder(speech.gpt)
    if speech.gpt.is_int8:
        fits = NativeDecoder.fits(speech.gpt, speech.cache_dtype)
        decoder = (NativeDecoder if fits else BatchDecoder)(speech.gpt, speech.cache_dtype, 1)
    voice = model.voices[voice_name]
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


def compare_vocoders(
    exact: LoadedModel, other: LoadedModel, voice: str, latents: Sequence[torch.Tensor]
) -> Row:
    """Returns the distance of the vocoders' sounds of latents, each [n, D]."""
    mel = torchaudio.transforms.MelSpectrogram(exact.sample_rate, 1024, hop_length=256, n_mels=80)
    embedding = exact.voices[voice].speaker_embedding
    power, noise, distances = 0.0, 0.0, []
    for each in latents:
        wanted, given = (
            Vocoder(model.speech.vocoder).stream(embedding).push(each, is_last=True)
            for model in (exact, other)
        )
        power += float(wanted.square().sum())
        noise += float((wanted - given).square().sum())
        spectra = [mel(sound).clamp(min=1e-5).log() for sound in (wanted, given)]
        distances.append(float((spectra[0] - spectra[1]).abs().mean()))
    return {
        "vocoder_snr_db": 10 * math.log10(power / noise) if noise else None,
        "vocoder_log_mel": statistics.mean(distances),
    }


def paired(values: Sequence[float], exact: Sequence[float]) -> tuple[float, float]:
    """Returns the mean difference of two columns, row by row, and its standard error."""
    differences = [value - other for value, other in zip(values, exact, strict=True)]
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.mean(differences), error


def recognise(texts: Sequence[str], spoken: Sequence[np.ndarray], rate: int) -> list[ErrorCount]:
    """Returns the words that a recogniser got wrong, for each sentence."""
    recogniser = PocketSphinx()
    return [
        word_errors(text, recogniser.transcribe(samples, rate))
        for text, samples in zip(texts, spoken, strict=True)
    ]


@dataclass(frozen=True)
class Speech:
    """Sentences as one format says them: words wrong and wanted, and seconds, of each."""

    errors: Sequence[ErrorCount]
    seconds: Sequence[float]


def hear(texts: Sequence[str], spoken: Sequence[np.ndarray], rate: int) -> Speech:
    """Recognises sentences, given as samples at `rate`."""
    return Speech(recognise(texts, spoken, rate), [len(each) / rate for each in spoken])


def compare_speech(given: Speech, exact: Speech) -> Row:
    """Returns word errors and durations, and by how much they differ from float32's."""
    words = statistics.mean(each.units for each in given.errors)
    wrong = paired([each.edits for each in given.errors], [each.edits for each in exact.errors])
    longer = paired(given.seconds, exact.seconds)
    return {
        "wer": sum(given.errors, ErrorCount(0, 0)).rate,
        "wer_difference": wrong[0] / words,
        "wer_difference_error": wrong[1] / words,
        "mean_s": statistics.mean(given.seconds),
        "mean_s_difference": longer[0],
        "mean_s_difference_error": longer[1],
    }


def measure(kinds: Sequence[str], model_name: str, voice: str, num_sentences: int) -> list[Row]:
    """Compares these of the `FORMATS` with float32 over some sentences."""
    texts = make_sentences(num_sentences)
    exact = load(FORMATS["float32"], model_name)
    voice = voice or exact.default_voice
    drawn = [speak(exact, voice, text, seed) for seed, text in enumerate(texts)]
    forced = [
        force(exact, voice, text, tokens) for text, (tokens, _) in zip(texts, drawn, strict=True)
    ]
    heard = hear(texts, [sound for _, sound in drawn], exact.sample_rate)
    logits, latents = torch.cat([each for each, _ in forced]), [each for _, each in forced]
    rows = []
    for kind in kinds:
        model = load(FORMATS[kind], model_name)
        again = [
            force(model, voice, text, tokens)[0]
            for text, (tokens, _) in zip(texts, drawn, strict=True)
        ]
        if kind == "float32":
            given = heard
        else:
            spoken = [speak(model, voice, text, seed)[1] for seed, text in enumerate(texts)]
            given = hear(texts, spoken, model.sample_rate)
        rows.append(
            {
                "formats": kind,
                "sentences": num_sentences,
                "steps": len(logits),
                **compare_logits(logits, torch.cat(again)),
                **compare_vocoders(exact, model, voice, latents),
                **compare_speech(given, heard),
            }
        )
        print(f"{kind}: measured", flush=True)
    return rows


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=20, help=f"2 to {MOST}")
    parser.add_argument("--formats", default="", help="only formats with this in their name")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--voice", default="", help="a voice of the model; else its default")
    options = parser.parse_args()
    if not 2 <= options.sentences <= MOST:
        parser.error(f"--sentences must be 2 to {MOST}")
    kinds = [kind for kind in FORMATS if options.formats in kind]
    rows = measure(kinds, options.model, options.voice, options.sentences)
    for key in rows[0]:
        cells = (row[key] for row in rows)
        texts = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        print(f"{key:>23}" + "".join(f"{text:>24}" for text in texts))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
