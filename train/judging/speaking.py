"""Two ways to let a bundle speak for its scores: in this process, or through a running service.

Both give samples and None where the speech was refused. In this process it is the service's own
synthesizer, checks and retries included; through the service, HTTP and the worker are in it too.
"""

from __future__ import annotations

import io
import json
import re
import urllib.error
import urllib.request
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from app.audio.pcm import from_s16
from app.errors import InputError, OutputError, UnavailableError
from app.messages import Audio, Done, Failed, Speak
from app.settings import Settings
from app.synthesis.opening import open_synthesizer

Samples = npt.NDArray[np.float32]

_TIMEOUT_S = 300
#: How the service says that its own output did not pass (`OutputError`).
_REFUSED_RE = re.compile(r'"code": ?"(output_invalid|non_finite)"')


class Speaking(Protocol):
    """Something that speaks in one voice."""

    @property
    def voice(self) -> str:
        """Its name."""
        ...

    @property
    def sample_rate(self) -> int:
        """Of the samples, in Hz."""
        ...

    def speak(self, name: str, text: str, seed: int) -> Samples | None:
        """Returns the speech [n], or None where it was refused; `name` is for logs."""
        ...


class InThisProcess:
    """The service's synthesizer, loaded here.

    Args:
        model: what `DEFAULT_MODEL` may be: `builtin`, a name or a path.
        voice: a voice of the bundle; its default where empty.
        language: of the texts.

    Raises:
        AudioVoiceError: the model can't be loaded.
    """

    def __init__(self, model: str, voice: str = "", language: str = "en") -> None:
        settings = Settings(default_model=model, force_cpu=True, threads=torch.get_num_threads())
        self._synthesizer = open_synthesizer(settings, _tell_nobody)
        self._language = language
        self.voice = voice or self._synthesizer.info.default_voice
        self.sample_rate = self._synthesizer.info.sample_rate
        self._synthesizer.warm_up()

    def speak(self, name: str, text: str, seed: int) -> Samples | None:
        """Returns the speech [n], or None where the output checks refused it."""
        parts: list[bytes] = []
        ended: list[Done | Failed] = []

        def keep(message: Audio | Done | Failed) -> None:
            if isinstance(message, Audio):
                parts.append(message.pcm)
            else:
                ended.append(message)

        request = Speak(id=name, text=text, voice=self.voice, language=self._language, seed=seed)
        self._synthesizer.submit(request, keep)
        while not ended:
            self._synthesizer.step()
        return from_s16(b"".join(parts)) if isinstance(ended[0], Done) else None


class ThroughService:
    """A running service, over HTTP.

    Args:
        url: where it listens, as `http://127.0.0.1:8005`.
        voice: a name the service knows.
        language: of the texts.
        api_key: where the service asks for one.
        sample_rate: of the service's model, in Hz.
    """

    def __init__(
        self,
        url: str,
        voice: str,
        language: str = "en",
        api_key: str = "",
        sample_rate: int = 24000,
    ) -> None:
        self.voice = voice
        self.sample_rate = sample_rate
        self._url = url.rstrip("/") + "/v1/audio/speech"
        self._language = language
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def speak(self, name: str, text: str, seed: int) -> Samples | None:
        """Returns the speech [n], or None where the service answered that it refused its output.

        Raises:
            InputError: the service did not take the request; its own words are given.
            UnavailableError: nothing answers there.
        """
        body = {
            "input": text,
            "voice": self.voice,
            "language": self._language,
            "seed": seed,
            "response_format": "wav",
        }
        request = urllib.request.Request(  # noqa: S310 - the user's own URL
            self._url, json.dumps(body).encode(), self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
                content = reply.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code == OutputError.status and _REFUSED_RE.search(said):
                return None
            raise InputError(f"{self._url} answered {error.code} to {name}: {said}") from error
        except OSError as error:
            raise UnavailableError(
                f"{self._url} does not answer ({error}); start the service, or mend --url."
            ) from error
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        self.sample_rate = rate
        return np.asarray(samples, dtype=np.float32)


def _tell_nobody(stage: str, device: str = "") -> None:
    """Takes the service's words about loading; an evaluation prints figures only."""
    del stage, device
