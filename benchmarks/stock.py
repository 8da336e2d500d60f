"""Stock coqui-tts as people serve it: one request after the other, float32, whole or streamed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.clients import Load, Reply, summarise
from benchmarks.energy import PowerMeter, joules_per_audio_s
from benchmarks.full_shape import load_stock, make_voice_tensors
from benchmarks.sentences import SENTENCES


class Stock:
    """Stock's model with one voice (`gpt_cond_latent`, `speaker_embedding`)."""

    def __init__(self, model: Any, voice: Mapping[str, torch.Tensor]) -> None:
        self._model = model
        self._voice = (voice["gpt_cond_latent"], voice["speaker_embedding"])

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Stock:
        """Loads a stock folder of full shape; stock's own way onto a card is `cuda()`."""
        model = load_stock(folder)
        if device.startswith("cuda"):
            model.cuda()
        return cls(model, make_voice_tensors())

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = self._model.device
        return device

    def speak(self, text: str) -> Reply:
        """Makes a text whole."""
        began = time.perf_counter()
        wave = self._model.inference(text, "en", *self._voice)["wav"]
        seconds = time.perf_counter() - began  # the wave is on the host: the card is done
        return Reply(text, seconds, seconds, bytes(2 * len(wave)))

    def stream(self, text: str) -> Reply:
        """Streams a text, with stock's own chunk size; a chunk is there once the host has it."""
        began = time.perf_counter()
        first_s, num_samples = float("nan"), 0
        for chunk in self._model.inference_stream(text, "en", *self._voice):
            samples = chunk.cpu()  # which waits for the card, as whoever plays it has to
            if not num_samples:
                first_s = time.perf_counter() - began
            num_samples += len(samples)
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


class StockLoads:
    """Stock in this process: one request after the other, whole and streamed."""

    def __init__(self, load: Callable[[], Stock]) -> None:
        before = psutil.Process().memory_info().rss
        self._stock = load()
        self._stock.speak(SENTENCES[-1])
        self.resident_mb = (psutil.Process().memory_info().rss - before) / 1e6
        self._loads: dict[tuple[str, int], list[Load]] = {("whole", 1): [], ("streamed", 1): []}
        self._joules: dict[tuple[str, int], float] = {}

    @property
    def card_mb(self) -> float | None:
        """Most memory of the card that torch held for it; None on a CPU."""
        device = self._stock.device
        return torch.cuda.max_memory_reserved(device) / 1e6 if device.type == "cuda" else None

    def run(self) -> None:
        """Says a sentence each way."""
        for (kind, clients), loads in self._loads.items():
            text = SENTENCES[len(loads) % len(SENTENCES)]
            reply = self._stock.speak(text) if kind == "whole" else self._stock.stream(text)
            loads.append(Load(clients, reply.total_s, [reply]))

    def measure_joules(self, meter: PowerMeter) -> None:
        """Says sentences each way until their energy is known."""
        for kind, say in (("whole", self._stock.speak), ("streamed", self._stock.stream)):

            def put(say: Callable[[str], Reply] = say) -> Load:
                reply = say(SENTENCES[0])
                return Load(1, reply.total_s, [reply])

            self._joules[kind, 1] = joules_per_audio_s(meter, put)

    def put_load(self, clients: int) -> None:
        """Lets several clients ask at once, streamed; they wait for each other."""
        load = self._stock.put_load(list(SENTENCES), clients)
        self._loads.setdefault(("streamed", clients), []).append(load)

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row for each way and number of clients; joules where they were measured."""
        rows = []
        for key, loads in self._loads.items():
            joules = {"joules_per_audio_s": self._joules.get(key)} if self._joules else {}
            rows.append({"stock": key[0], **summarise(loads), **joules})
        return rows
