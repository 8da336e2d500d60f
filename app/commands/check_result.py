"""What `python -m app check` found, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

_KEY_WIDTH = 18
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Sentence:
    """One test sentence: the file, how long it is and took, and what is wrong with it, if it is."""

    file: str
    text: str
    audio_s: float
    first_audio_s: float
    took_s: float
    fault: str

    @property
    def factor(self) -> float:
        """Seconds of work for each second of audio; 0 where there is no audio."""
        return self.took_s / self.audio_s if self.audio_s else 0.0


@dataclass(frozen=True)
class CheckResult:
    """Everything; times in seconds, memory in bytes and None where it is not known."""

    verdict: str
    verdict_detail: str
    device: str
    device_reason: str
    routes: dict[str, str]
    model: str
    version: str
    model_source: str
    start_s: float
    load_s: float
    warmup_s: float
    loaded_bytes: int | None
    peak_bytes: int | None
    device_peak_bytes: int | None
    sentences: tuple[Sentence, ...]
    training: str = ""
    """What fine-tuning this model would cost here, in words; empty where it was not tried."""

    @property
    def is_valid(self) -> bool:
        """True when every sentence passed."""
        return not any(sentence.fault for sentence in self.sentences)

    @property
    def steady_factor(self) -> float:
        """Real-time factor of the sentences after the first; the first stands for none."""
        steady = self.sentences[1:]
        audio_s = sum(sentence.audio_s for sentence in steady)
        return sum(sentence.took_s for sentence in steady) / audio_s if audio_s else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        data = asdict(self)
        for entry, sentence in zip(data["sentences"], self.sentences, strict=True):
            entry["real_time_factor"] = round(sentence.factor, 4)
        return {**data, "steady_factor": round(self.steady_factor, 4), "valid": self.is_valid}


def result_lines(result: CheckResult) -> Iterator[str]:
    """Yields the table."""
    yield _row("device", f"{result.device}: {result.device_reason}")
    yield _row("probe", f"{result.verdict}: {result.verdict_detail}")
    yield from (_row(f"-> {name}", choice) for name, choice in result.routes.items())
    yield _row("model", f"{result.model} {result.version} ({result.model_source})")
    yield _row(
        "start",
        f"{result.start_s:.1f} s: engine and model {result.load_s:.1f} s, "
        f"first sentence (warm-up) {result.warmup_s:.1f} s",
    )
    yield _row(
        "memory",
        f"{_megabytes(result.loaded_bytes)} loaded, {_megabytes(result.peak_bytes)} at most",
    )
    if result.device_peak_bytes is not None:
        yield _row("GPU memory", f"{_megabytes(result.device_peak_bytes)} at most")
    yield ""
    yield f"{'file':28} {'audio':>7} {'first':>7} {'whole':>7} {'factor':>7}  output"
    for sentence in result.sentences:
        yield (
            f"{sentence.file:28} {sentence.audio_s:6.2f}s {sentence.first_audio_s:6.2f}s "
            f"{sentence.took_s:6.2f}s {sentence.factor:7.3f}  {sentence.fault or 'valid'}"
        )
    yield ""
    word = "faster" if result.steady_factor < 1 else "slower"
    yield _row(
        "steady", f"{result.steady_factor:.3f} s of work a second of audio: {word} than speech"
    )
    if result.training:
        yield _row("training", result.training)
    yield _row("outputs", "all valid" if result.is_valid else "NOT ALL VALID, see above")


def _megabytes(num_bytes: int | None) -> str:
    return "not known" if num_bytes is None else f"{num_bytes / _MEGABYTE:,.0f} MB"


def _row(key: str, value: str) -> str:
    return f"{key:{_KEY_WIDTH}} {value}"
