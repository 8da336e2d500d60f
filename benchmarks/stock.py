"""Stock coqui-tts as people serve it: one request after the other, whole or streamed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.clients import Load, Reply
from benchmarks.full_shape import load_stock, make_voice_tensors


class Stock:
    """Stock's model with one voice (`gpt_cond_latent`, `speaker_embedding`)."""

    def __init__(self, model: Any, voice: Mapping[str, torch.Tensor]) -> None:
        self._model = model
        self._voice = (voice["gpt_cond_latent"], voice["speaker_embedding"])

    @classmethod
    def load(cls, folder: Path) -> Stock:
        """Loads a stock folder of full shape."""
        return cls(load_stock(folder), make_voice_tensors())

    def speak(self, text: str) -> Reply:
        """Makes a text whole."""
        began = time.perf_counter()
        wave = self._model.inference(text, "en", *self._voice)["wav"]
        seconds = time.perf_counter() - began
        return Reply(text, seconds, seconds, bytes(2 * len(wave)))

    def stream(self, text: str) -> Reply:
        """Streams a text, with stock's own chunk size."""
        began = time.perf_counter()
        first_s, num_samples = float("nan"), 0
        for chunk in self._model.inference_stream(text, "en", *self._voice):
            if not num_samples:
                first_s = time.perf_counter() - began
            num_samples += len(chunk)
        return Reply(text, first_s, time.perf_counter() - began, bytes(2 * num_samples))

    def put_load(self, texts: list[str], clients: int) -> Load:
        """Answers `clients` that ask at the same moment, streamed; each waits for those before.

        All in the caller's thread. Torch gives each thread that computes a pool of its own, and
        these disturb each other even where a lock lets one compute at a time (9.4 s for a second
        of audio where one thread took 2.9).
        """
        began = time.perf_counter()
        replies = []
        for number in range(clients):
            waited_s = time.perf_counter() - began
            reply = self.stream(texts[number % len(texts)])
            replies.append(
                replace(reply, first_s=waited_s + reply.first_s, total_s=waited_s + reply.total_s)
            )
        return Load(clients, time.perf_counter() - began, replies)
