"""Whether audio that was made can be the speech it should be: cheap checks with numpy alone.

They find what a model does when it fails: numbers that are not finite, silence, overdrive, text
left out, a voice that runs on after the text, long gaps. They don't find a wrong word; that takes
a listener or a recogniser. Costs about 0.03 % of the audio's duration.

Knows nothing of models, retries or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.audio.clip import FloatArray
from app.audio.measures import CLIPPED_AT, Measures, Meter
from app.audio.pace import DurationRange, plausible_duration

#: Loudest 20 ms of a segment; speech of a usable level reaches -10 to -30 dBFS.
SILENT_DBFS = -45.0
#: Share of samples at full scale. Measured on 1,465 clean clips (medians of two speakers): 0.001 %
#: when the peak is brought to full scale, 0.4 and 1.8 % driven 6 dB beyond, 3 and 12 % at 12 dB.
MAX_CLIPPED_SHARE = 0.005
#: A single chunk may hold one loud syllable, so it must be worse to stop a stream.
MAX_CLIPPED_SHARE_OF_CHUNK = 0.05
#: Mean of the samples; recordings stay under 0.001.
MAX_DC_OFFSET = 0.05
#: Longest pause within speech at speed 1. Readers pause up to about 1 s between clauses; the
#: recordings behind `pace` up to 0.5 s within a sentence.
MAX_INNER_SILENCE_S = 2.0
MAX_LEADING_SILENCE_S = 1.5
MAX_TRAILING_SILENCE_S = 1.5


@dataclass(frozen=True)
class SegmentCheck:
    """The verdict on a segment.

    Attributes:
        ok: no fault was found.
        faults: machine words, the worst first: `non_finite`, `silent`, `clipped`, `too_short`,
            `too_long`, `not_stopped`, `leading_silence`, `inner_silence`, `trailing_silence`,
            `dc_offset`.
        explanation: each fault with what was measured, for use within a sentence; "" if ok.
        measures: what was counted; those of a segment that is not finite leave out such chunks.
        plausible: the durations that the text allows.
    """

    ok: bool
    faults: tuple[str, ...]
    explanation: str
    measures: Measures
    plausible: DurationRange


class ChunkChecker:
    """Checks a segment while it streams: says at once what no later chunk can mend.

    Args:
        sample_rate: in Hz.
        longest_s: the segment's longest plausible duration at its speed, in seconds; see
            `longest_plausible_s`.
    """

    def __init__(self, sample_rate: int, *, longest_s: float) -> None:
        self._rate = sample_rate
        self._longest_s = longest_s
        self._num_samples = 0

    def check(self, samples: FloatArray) -> str | None:
        """Takes the next chunk; returns what is wrong in one sentence, or None.

        Args:
            samples: [num_samples] in [-1, 1].
        """
        self._num_samples += len(samples)
        if not np.isfinite(samples).all():
            return "non_finite: the audio holds values that are not finite"
        share = float(np.mean(np.abs(samples) >= CLIPPED_AT)) if len(samples) else 0.0
        if share > MAX_CLIPPED_SHARE_OF_CHUNK:
            return f"clipped: {share:.1%} of a chunk's samples are at full scale"
        duration_s = self._num_samples / self._rate
        if duration_s > self._longest_s:
            return (
                f"too_long: {duration_s:.1f} s and not at its end, where the text takes at most"
                f" {self._longest_s:.1f} s"
            )
        return None


def check_segment(
    samples: FloatArray,
    sample_rate: int,
    *,
    spoken: str,
    language: str = "",
    speed: float = 1.0,
    stopped: bool = True,
) -> SegmentCheck:
    """Checks a whole segment against the text it should say.

    Args:
        samples: [num_samples] in [-1, 1].
        sample_rate: in Hz.
        spoken: the text as it is spoken; see `pace.plausible_duration`.
        language: its code, or "" if it is not known.
        speed: at which it was spoken.
        stopped: the model ended by itself, not at a limit.
    """
    meter = Meter(sample_rate)
    meter.add(samples)
    measures = meter.measures()
    plausible = plausible_duration(spoken, language, speed)
    if not meter.is_finite:
        faults = [("non_finite", "it holds values that are not finite")]
    else:
        faults = _faults(measures, plausible, speed, stopped)
    return SegmentCheck(
        ok=not faults,
        faults=tuple(word for word, _ in faults),
        explanation="; ".join(f"{word}: {description}" for word, description in faults),
        measures=measures,
        plausible=plausible,
    )


def longest_plausible_s(spoken: str, language: str = "", speed: float = 1.0) -> float:
    """Returns the longest plausible duration of a text, in seconds.

    Args:
        spoken: the text as it is spoken.
        language: its code, or "" if it is not known.
        speed: 2.0 says it in half the time.
    """
    return plausible_duration(spoken, language, speed).longest_s


def _faults(
    m: Measures, plausible: DurationRange, speed: float, stopped: bool
) -> list[tuple[str, str]]:
    """Returns each fault as its machine word and its description."""
    if m.loudest_dbfs < SILENT_DBFS:
        return [("silent", f"its loudest moment is at {m.loudest_dbfs:.0f} dBFS")]
    # Gaps stretch with slow speech; faster speech may keep the pauses of normal speech.
    stretch = max(1.0, 1.0 / speed)
    sounding_s = m.duration_s - m.leading_silence_s - m.trailing_silence_s
    rules = (
        (
            m.clipped_share > MAX_CLIPPED_SHARE,
            "clipped",
            f"{m.clipped_share:.1%} of its samples are at full scale",
        ),
        (
            sounding_s < plausible.shortest_s,
            "too_short",
            f"{sounding_s:.2f} s sound, where the text takes at least {plausible.shortest_s:.2f} s",
        ),
        (
            m.duration_s > plausible.longest_s,
            "too_long",
            f"{m.duration_s:.1f} s, where the text takes at most {plausible.longest_s:.1f} s",
        ),
        (not stopped, "not_stopped", "the model did not come to an end by itself"),
        (
            m.leading_silence_s > MAX_LEADING_SILENCE_S * stretch,
            "leading_silence",
            f"{m.leading_silence_s:.1f} s of silence come first",
        ),
        (
            m.inner_silence_s > MAX_INNER_SILENCE_S * stretch,
            "inner_silence",
            f"a silence of {m.inner_silence_s:.1f} s lies within it",
        ),
        (
            m.trailing_silence_s > MAX_TRAILING_SILENCE_S * stretch,
            "trailing_silence",
            f"{m.trailing_silence_s:.1f} s of silence come last",
        ),
        (
            abs(m.dc_offset) > MAX_DC_OFFSET,
            "dc_offset",
            f"its mean is {m.dc_offset:+.2f} of full scale",
        ),
    )
    return [(word, description) for applies, word, description in rules if applies]
