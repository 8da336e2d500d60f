"""Stock coqui-tts as people serve it: one model, one lock, whole or streamed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.clients import Load, Reply
from benchmarks.full_shape import load_stock, make_voice_tensors


class Stock:
    """Stock's model of a stock folder, behind a lock."""

    def __init__(self, folder: Path) -> None:
        self._model = load_stock(folder)
        voice = make_voice_tensors()
        self._voice = (voice["gpt_cond_latent"], voice["speaker_embedding"])
        self._lock = threading.Lock()

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
        """Lets `clients` at once each ask for one text."""
        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            replies = list(pool.map(self.speak, [texts[n % len(texts)] for n in range(clients)]))
        return Load(clients, time.perf_counter() - began, replies)

    def vocode_growing(self, seconds: float, chunk_tokens: int = 20) -> float:
        """Returns the seconds that stock's streaming vocodes for so much speech.

        At each chunk it vocodes all latents so far (coqui-tts, `Xtts.inference_stream`).
        """
        num_tokens = round(seconds * 22050 / 1024)
        latents = torch.randn(1, num_tokens, 1024, generator=torch.Generator().manual_seed(0))
        began = time.perf_counter()
        with torch.inference_mode():
            for end in range(chunk_tokens, num_tokens + chunk_tokens, chunk_tokens):
                self._model.hifigan_decoder(latents[:, :end], g=self._voice[1])
        return time.perf_counter() - began
