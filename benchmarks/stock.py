"""Stock coqui-tts as people serve it: one model, one lock, whole or streamed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.clients import Load, Reply
from benchmarks.full_shape import load_stock, make_voice_tensors


class Stock:
    """Stock's model behind a lock, with one voice (`gpt_cond_latent`, `speaker_embedding`)."""

    def __init__(self, model: Any, voice: Mapping[str, torch.Tensor]) -> None:
        self._model = model
        self._voice = (voice["gpt_cond_latent"], voice["speaker_embedding"])
        self._lock = threading.Lock()

    @classmethod
    def load(cls, folder: Path) -> Stock:
        """Loads a stock folder of full shape."""
        return cls(load_stock(folder), make_voice_tensors())

    def speak(self, text: str) -> Reply:
        """Makes a text whole, once the lock is free."""
        began = time.perf_counter()
        with self._lock:
            wave = self._model.inference(text, "en", *self._voice)["wav"]
        seconds = time.perf_counter() - began
        return Reply(text, seconds, seconds, bytes(2 * len(wave)))

    def stream(self, text: str) -> Reply:
        """Streams a text, with stock's own chunk size."""
        began = time.perf_counter()
        first_s, num_samples = float("nan"), 0
        with self._lock:
            for chunk in self._model.inference_stream(text, "en", *self._voice):
                if not num_samples:
                    first_s = time.perf_counter() - began
                num_samples += len(chunk)
        return Reply(text, first_s, time.perf_counter() - began, bytes(2 * num_samples))

    def put_load(self, texts: list[str], clients: int) -> Load:
        """Lets `clients` at once each ask for one text, streamed."""
        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            replies = list(pool.map(self.stream, [texts[n % len(texts)] for n in range(clients)]))
        return Load(clients, time.perf_counter() - began, replies)
