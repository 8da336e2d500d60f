"""What a loaded model says about itself to the rest of the service. Plain data, no torch."""

from __future__ import annotations

from dataclasses import dataclass

from app.messages import Route, VoiceInfo


@dataclass(frozen=True)
class ModelInfo:
    """The fields of the worker's `Ready` message that the model and its device decide."""

    model: str
    version: str
    licence: str
    languages: tuple[str, ...]
    voices: tuple[VoiceInfo, ...]
    default_voice: str
    sample_rate: int
    device: str
    device_reason: str
    routes: tuple[Route, ...] = ()
