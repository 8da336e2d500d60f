"""Speech from flite, a free synthesiser, with the end time of each phone.

Knows the command's arguments and its output (flite 2.2). flite is the Debian package `flite`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from app.errors import SettingsError

_SEGMENT_RE = re.compile(r"(\S+):(\d+\.\d+)")


def check_flite_or_raise() -> None:
    """Raises SettingsError where the command is not installed."""
    if shutil.which("flite") is None:
        raise SettingsError(
            "the recipe has a flite speaker and the command flite is missing; "
            "install the Debian package flite."
        )


def speak(text: str, voice: str) -> tuple[npt.NDArray[np.float32], int, list[tuple[str, float]]]:
    """Speaks a text.

    Returns:
        Samples in [-1, 1], their rate, and each phone with its end time in seconds.

    Raises:
        SettingsError: flite failed, as for a voice it does not have.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        done = subprocess.run(
            ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode or not path.is_file():
            raise SettingsError(f"flite could not speak with voice {voice!r}: {done.stderr[:200]}")
        samples, rate = soundfile.read(path, dtype="float32")
    segments = [(name, float(end)) for name, end in _SEGMENT_RE.findall(done.stdout)]
    return samples, rate, segments
