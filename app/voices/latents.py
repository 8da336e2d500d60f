"""What the model hears of a voice: from the bundle, or computed from an uploaded clip and kept.

Computed voices are cached in memory and on disk by what they follow from: the clip's samples, the
conditioning weights, and the version of the code. A voice that is replaced under its name is so
never mistaken for the old one. Knows nothing of how clips are stored or latents computed.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path

import torch

from app.engine.types import Conditioning
from app.errors import ModelFileError
from app.files import sha256_of_bytes
from app.models.loading import LoadedModel
from app.models.stored_voices import read_voice, write_voice
from app.voices.store import VoiceStore

#: Voices kept in memory; one of XTTS-v2 takes 133 kB.
MAX_IN_MEMORY = 256

_log = logging.getLogger(__name__)


class VoiceLatents:
    """Finds or computes the conditioning of voices. May be called from several threads."""

    def __init__(
        self,
        model: LoadedModel,
        store: VoiceStore,
        cache_dir: Path,
        *,
        max_in_memory: int = MAX_IN_MEMORY,
    ) -> None:
        self._model = model
        self._store = store
        self._cache_dir = cache_dir
        self._max_in_memory = max_in_memory
        self._recent: OrderedDict[str, Conditioning] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Conditioning:
        """Returns a voice of the bundle at once, an uploaded one from the cache or its clip.

        Raises:
            NotFoundError: neither the bundle nor the store has it.
            InputError: its clip is too short or silent.
            ModelFileError: its clip is damaged.
        """
        if name in self._model.voices:
            return self._model.voices[name]
        key = self._key(self._store.get(name).content_hash)
        voice = self._recall(key)
        if voice is None:
            voice = self._read(key) or self._compute(name, key)
            self._remember(key, voice)
        return voice

    def _key(self, content_hash: str) -> str:
        """Names what the conditioning follows from: clip, weights and code."""
        return sha256_of_bytes(f"{self._model.conditioner.identity} {content_hash}".encode())

    def _path(self, key: str) -> Path:
        return self._cache_dir / f"{key}.safetensors"

    def _compute(self, name: str, key: str) -> Conditioning:
        clip = self._store.read_clip(name)
        voice = self._model.conditioner.encode(clip.samples, clip.sample_rate)
        try:
            write_voice(self._path(key), voice)
        except OSError as error:
            _log.warning("Voice %r is not cached on disk: %s.", name, error)
        return voice

    def _read(self, key: str) -> Conditioning | None:
        path = self._path(key)
        if not path.exists():
            return None
        try:
            voice = read_voice(
                path,
                self._model.conditioner.gpt_width,
                self._model.conditioner.speaker_dim,
                self._model.conditioner.device,
            )
        except ModelFileError as error:
            _log.warning("Cached voice is computed again: %s", error.message)
            return None
        if not _is_finite(voice):
            _log.warning("Cached voice is computed again: %s holds no finite numbers.", path)
            return None
        return voice

    def _recall(self, key: str) -> Conditioning | None:
        with self._lock:
            voice = self._recent.get(key)
            if voice is not None:
                self._recent.move_to_end(key)
            return voice

    def _remember(self, key: str, voice: Conditioning) -> None:
        with self._lock:
            self._recent[key] = voice
            self._recent.move_to_end(key)
            while len(self._recent) > self._max_in_memory:
                self._recent.popitem(last=False)


def _is_finite(voice: Conditioning) -> bool:
    return bool(
        torch.isfinite(voice.gpt_latents).all() and torch.isfinite(voice.speaker_embedding).all()
    )
