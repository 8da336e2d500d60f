"""The card itself: what it is, how fast its memory is, and the least time that leaves for a token.

    python -m benchmarks.card

prints one JSON line, or `null` without a card. Measured in a process of its own, which leaves no
context on the card.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from app.models.config import ModelConfig

_ROOT = Path(__file__).parent.parent
_COPY_BYTES = 4 << 30
_RUNS = 20
_WARM_UP_RUNS = 3
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Card:
    """One GPU; `bytes_per_s` is what a copy within its memory reads and writes together."""

    name: str
    uuid: str
    total_bytes: int
    bytes_per_s: float


@dataclass(frozen=True)
class Floor:
    """The least time of a second of audio: the weights of a step read once for each token."""

    step_bytes: int
    bytes_per_s: float
    s_per_audio_s: float

    def describe(self, clients: int, found_s_per_audio_s: float) -> str:
        """Returns it in words, beside what so many clients took."""
        return (
            f"the floor: {self.s_per_audio_s:.4f} s for a second of audio "
            f"({self.step_bytes / 1e6:.0f} MB of weights a token at "
            f"{self.bytes_per_s / 1e9:.0f} GB/s, by a copy on the card); {clients} at once took "
            f"{found_s_per_audio_s:.4f}, {found_s_per_audio_s / self.s_per_audio_s:.1f} times that"
        )


def floor_of(config: ModelConfig, precision: str, bytes_per_s: float) -> Floor:
    """Returns the floor of a model.

    A layer of width W has 12 W^2 + 13 W numbers: three of attention's inputs, its output, a
    perceptron of four times the width, their biases and two norms. Two more norms and the head
    follow. Keys and values, prefill and vocoder are not counted, so no decoder gets there.

    Args:
        config: the model's.
        precision: the format it is kept in, as the service tells it: `bfloat16`.
        bytes_per_s: the card's.
    """
    args, width = config.model_args, config.gpt_width
    layers, codes = int(args.get("gpt_layers", 30)), int(args.get("gpt_num_audio_tokens", 1026))
    numbers = layers * (12 * width**2 + 13 * width) + 4 * width + codes * (width + 1)
    dtype = getattr(torch, precision.split(maxsplit=1)[0])
    step_bytes = numbers * dtype.itemsize
    stride = int(args.get("gpt_code_stride_len", 1024))
    tokens_per_s = int(args.get("input_sample_rate", 22050)) / stride
    return Floor(step_bytes, bytes_per_s, step_bytes / bytes_per_s * tokens_per_s)


def read_card() -> Card | None:
    """Returns the card that torch takes by itself, measured now; None without one.

    Raises:
        RuntimeError: it could not be measured.
    """
    command = [sys.executable, "-m", "benchmarks.card"]
    told = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if told.returncode:
        raise RuntimeError(f"The card could not be measured: {told.stderr.strip()}")
    found = json.loads(told.stdout.splitlines()[-1])
    return Card(**found) if found else None


def copy_bytes_per_s(device: torch.device, num_bytes: int, runs: int = _RUNS) -> float:
    """Returns how many bytes a large copy within a device's memory reads and writes a second."""
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(_WARM_UP_RUNS + runs):
        began = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * num_bytes / statistics.median(seconds[_WARM_UP_RUNS:])


def _measure() -> Card | None:
    if not torch.cuda.is_available():
        return None
    device = torch.device("cuda", 0)
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    speed = copy_bytes_per_s(device, min(_COPY_BYTES, free // 4))
    return Card(properties.name, f"GPU-{properties.uuid}", total, speed)


if __name__ == "__main__":
    card = _measure()
    print(json.dumps(asdict(card) if card else None))
