"""Our engine against stock coqui on the same weights: the same tokens, the same sound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import toy
from numpy.typing import NDArray

from app.engine.scheduler import Scheduler
from app.engine.types import AudioChunk, Conditioning, DecodeOptions, SegmentDone, SegmentJob

TEXTS = ("hello there.", "the wind rose before the morning came, and nobody heard it!")


@pytest.fixture(scope="module")
def stock() -> Any:
    return toy.load_stock(toy.toy_folder())


def speak_stock(
    stock: Any, text: str, voice: Conditioning, **options: Any
) -> tuple[list[int], NDArray[np.float32]]:
    """Returns stock's tokens, seen where `inference` gets them, and its samples."""
    codes = []
    generate = stock.gpt.generate

    def generate_and_keep(*args: Any, **kwargs: Any) -> Any:
        codes.append(generate(*args, **kwargs))
        return codes[-1]

    stock.gpt.generate = generate_and_keep
    try:
        result = stock.inference(
            text, "en", voice.gpt_latents, voice.speaker_embedding, do_sample=False, **options
        )
    finally:
        stock.gpt.generate = generate
    return codes[0][0].tolist(), result["wav"]


def speak_ours(
    stock: Any, text: str, voice: Conditioning, options: DecodeOptions, speed: float = 1.0
) -> tuple[SegmentDone, NDArray[np.float32]]:
    token_ids = tuple(stock.tokenizer.encode(text, lang="en"))
    scheduler = Scheduler(toy.toy_model())
    scheduler.submit(SegmentJob("a", token_ids, voice, options, speed))
    events = []
    while not scheduler.is_idle:
        events += scheduler.step()
    done = events[-1]
    assert isinstance(done, SegmentDone)
    return done, np.concatenate([e.samples for e in events if isinstance(e, AudioChunk)])


@pytest.mark.parametrize("penalty", [1.0, 2.0, 10.0])
def test_greedy_speech_is_stocks(stock: Any, penalty: float) -> None:
    options = DecodeOptions(greedy=True, repetition_penalty=penalty)
    for index, text in enumerate(TEXTS):
        voice = toy.voice(index)
        tokens, wave = speak_stock(stock, text, voice, repetition_penalty=penalty)
        done, samples = speak_ours(stock, text, voice, options)

        assert list(done.tokens) == tokens
        assert len(set(tokens)) > 5, "a model that repeats itself would show nothing"
        assert done.stopped == (tokens[-1] == 1025)
        assert samples.shape == wave.shape
        assert np.abs(samples - wave).max() <= 1e-3 * np.abs(wave).max()


def test_speed_is_stocks(stock: Any) -> None:
    voice = toy.voice(0)
    options = DecodeOptions(greedy=True, max_tokens=40)
    _, wave = speak_stock(stock, TEXTS[1], voice, speed=1.37)
    _, samples = speak_ours(stock, TEXTS[1], voice, DecodeOptions(greedy=True), 1.37)
    assert samples.shape == wave.shape
    assert np.abs(samples - wave).max() <= 1e-3 * np.abs(wave).max()
    done, _ = speak_ours(stock, TEXTS[1], voice, options)
    assert len(done.tokens) <= 40


def test_the_limit_on_tokens_is_stocks(stock: Any) -> None:
    assert toy.toy_model().max_audio_tokens == stock.gpt.max_gen_mel_tokens
    endings = set()
    for index in range(6):
        voice = toy.voice(index)
        tokens, _ = speak_stock(stock, TEXTS[0], voice, repetition_penalty=1.0)
        options = DecodeOptions(greedy=True, repetition_penalty=1.0)
        done, _ = speak_ours(stock, TEXTS[0], voice, options)
        assert list(done.tokens) == tokens
        endings.add(done.stopped)
    assert endings == {True, False}, "both ways to end must be among these"
