"""Clients that speak at the same time, each one request after the other, and what they saw."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

SAMPLE_RATE = 24000
_BYTES_PER_SAMPLE = 2
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Reply:
    """One answer: its first audio and its end in seconds after the request, and its s16le."""

    text: str
    first_s: float
    total_s: float
    pcm: bytes
    error: str = ""

    @property
    def audio_s(self) -> float:
        """Seconds of audio."""
        return len(self.pcm) / _BYTES_PER_SAMPLE / SAMPLE_RATE


@dataclass(frozen=True)
class Load:
    """What a number of clients saw together; `replies` are those of all."""

    clients: int
    wall_s: float
    replies: Sequence[Reply] = field(repr=False)

    @property
    def good(self) -> list[Reply]:
        """The replies without an error."""
        return [reply for reply in self.replies if not reply.error]

    @property
    def wall_s_per_audio_s(self) -> float:
        """Seconds that all together took for each second of audio."""
        audio_s = sum(reply.audio_s for reply in self.good)
        return self.wall_s / audio_s if audio_s else math.nan


def summarise(loads: Sequence[Load]) -> dict[str, float | int]:
    """Returns repeated runs of one load as one row of a table; times in seconds.

    Times of single requests are over those of all runs, what all clients got together is the median
    of the runs, with the extremes beside it.
    """
    replies = [reply for load in loads for reply in load.replies]
    good = [reply for load in loads for reply in load.good]
    firsts = sorted(reply.first_s for reply in good) or [math.nan]
    walls = [load.wall_s_per_audio_s for load in loads]
    return {
        "clients": loads[0].clients,
        "runs": len(loads),
        "requests": len(replies),
        "failures": len(replies) - len(good),
        "first_audio_p50_s": statistics.median(firsts),
        "first_audio_p95_s": firsts[int(0.95 * (len(firsts) - 1) + 0.5)],
        "request_s_per_audio_s": statistics.median(
            [reply.total_s / reply.audio_s for reply in good] or [math.nan]
        ),
        "wall_s_per_audio_s": statistics.median(walls),
        "wall_min": min(walls),
        "wall_max": max(walls),
        "audio_s_per_s": 1 / statistics.median(walls),
    }


def put_load(
    url: str, voice: str, texts: Sequence[str], clients: int, per_client: int, first: int = 0
) -> Load:
    """Lets `clients` at once each send `per_client` streamed requests.

    Texts go round, from number `first` on, and each request's number is its seed.
    """
    return asyncio.run(_put_load(url, voice, texts, clients, per_client, first))


async def _put_load(
    url: str, voice: str, texts: Sequence[str], clients: int, per_client: int, first: int
) -> Load:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, limits=limits) as http:

        async def one_client(client: int) -> list[Reply]:
            replies = []
            for turn in range(per_client):
                number = first + client * per_client + turn
                replies.append(await _speak(http, voice, texts[number % len(texts)], number))
            return replies

        began = time.perf_counter()
        replies = await asyncio.gather(*(one_client(index) for index in range(clients)))
        wall_s = time.perf_counter() - began
    return Load(clients, wall_s, [reply for many in replies for reply in many])


async def _speak(http: httpx.AsyncClient, voice: str, text: str, seed: int) -> Reply:
    body = {
        "model": "tts-1",
        "voice": voice,
        "input": text,
        "seed": seed,
        "response_format": "pcm",
        "stream_format": "audio",
        "language": "en",
    }
    began = time.perf_counter()
    first_s, pieces = float("nan"), []
    try:
        async with http.stream("POST", "/v1/audio/speech", json=body) as answer:
            async for piece in answer.aiter_bytes():
                if not pieces:
                    first_s = time.perf_counter() - began
                pieces.append(piece)
            status = answer.status_code
    except httpx.HTTPError as error:
        return Reply(text, first_s, time.perf_counter() - began, b"", repr(error))
    content = b"".join(pieces)
    total_s = time.perf_counter() - began
    if status != 200:
        return Reply(text, first_s, total_s, b"", content.decode(errors="replace"))
    return Reply(text, first_s, total_s, content)
