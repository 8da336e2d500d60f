"""Each fault is found, and real speech passes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.audio.clip import FloatArray
from app.audio.measures import Meter
from app.audio.pace import plausible_duration
from app.audio.validate import ChunkChecker, check_segment, longest_plausible_s

RATE = 24_000
CLIPS = Path(__file__).resolve().parents[1] / "data" / "clips"
TEXTS = {
    "arctic_a0026_1592747944": "It occurred to me that there would have to be an accounting.",
    "arctic_a0329_1592709356": "Ah, indeed.",
    "arctic_b0047_1592700327": "Suppose you saw me at work through the window.",
}
LONG = "arctic_a0026_1592747944"


def read(name: str) -> FloatArray:
    samples, rate = soundfile.read(CLIPS / f"{name}.flac", dtype="float32")
    assert rate == RATE
    return samples


def silence(seconds: float) -> FloatArray:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def join(*parts: FloatArray) -> FloatArray:
    return np.concatenate(parts)


def speech_like(seconds: float) -> FloatArray:
    """A buzz of harmonics in syllables of 150 ms with 50 ms between, over a faint room."""
    at = np.arange(round(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * at) / k for k in range(1, 20))
    room = np.random.default_rng(1).standard_normal(len(at)) * 10 ** (-65 / 20)
    return (0.1 * buzz * ((at % 0.2) < 0.15) + room).astype(np.float32)


@pytest.mark.parametrize("name", TEXTS)
def test_real_speech_passes(name: str) -> None:
    check = check_segment(read(name), RATE, spoken=TEXTS[name], language="en")
    assert (check.ok, check.faults, check.explanation) == (True, (), "")
    longest_s = longest_plausible_s(TEXTS[name], "en")
    checker = ChunkChecker(RATE, longest_s=longest_s)
    assert [checker.check(chunk) for chunk in np.array_split(read(name), 9)] == [None] * 9


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_the_range_follows_the_speed(speed: float) -> None:
    text = TEXTS[LONG]
    made = speech_like(2.6 / speed)
    assert check_segment(made, RATE, spoken=text, speed=speed).ok
    if speed > 1:
        assert not check_segment(made, RATE, spoken=text, speed=1.0).ok


def with_value(value: float) -> FloatArray:
    samples = read(LONG)
    samples[5000] = value
    return samples


FAULTY = {
    "nan": (lambda: with_value(np.nan), "non_finite"),
    "infinite": (lambda: with_value(-np.inf), "non_finite"),
    "digital silence": (lambda: silence(2.6), "silent"),
    "faint": (lambda: read(LONG) * np.float32(0.003), "silent"),
    "nothing": (lambda: silence(0), "silent"),
    "overdriven by 12 dB": (
        lambda: np.clip(read(LONG) / np.abs(read(LONG)).max() * 4, -1, 1),
        "clipped",
    ),
    "only the first third": (lambda: read(LONG)[: len(read(LONG)) // 3], "too_short"),
    "one click": (lambda: join(silence(1), silence(0.01) + np.float32(0.5)), "too_short"),
    "the text five times": (lambda: np.tile(read(LONG), 6), "too_long"),
    "a late start": (lambda: join(silence(1.8), read(LONG)), "leading_silence"),
    "a gap": (
        lambda: join(read(LONG)[:RATE], silence(2.2), read(LONG)[RATE:]),
        "inner_silence",
    ),
    "a silent tail": (lambda: join(read(LONG), silence(1.8)), "trailing_silence"),
    "an offset": (lambda: read(LONG) + np.float32(0.1), "dc_offset"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_each_fault_is_found_and_explained(case: str) -> None:
    make, word = FAULTY[case]
    check = check_segment(make(), RATE, spoken=TEXTS[LONG], language="en")
    assert not check.ok
    assert word in check.faults
    assert word in check.explanation
    assert not check.explanation.endswith(".")


def test_a_fault_is_found_alone_where_only_one_is() -> None:
    for case in ("a late start", "a gap", "a silent tail", "an offset"):
        make, word = FAULTY[case]
        assert check_segment(make(), RATE, spoken=TEXTS[LONG]).faults == (word,)


def test_a_model_that_never_stopped_is_told_from_one_that_did() -> None:
    check = check_segment(read(LONG), RATE, spoken=TEXTS[LONG], stopped=False)
    assert check.faults == ("not_stopped",)


@pytest.mark.parametrize(
    ("chunk", "word"),
    [
        (np.full(2000, np.nan, dtype=np.float32), "non_finite"),
        (np.sign(np.sin(np.arange(2000) / 9)).astype(np.float32), "clipped"),
    ],
)
def test_a_bad_chunk_is_named_at_once(chunk: FloatArray, word: str) -> None:
    checker = ChunkChecker(RATE, longest_s=10)
    assert checker.check(read(LONG)[:4000]) is None
    assert (checker.check(chunk) or "").startswith(word)


def test_a_run_on_is_named_with_the_chunk_that_goes_too_far() -> None:
    checker = ChunkChecker(RATE, longest_s=1.0)
    said = [checker.check(speech_like(0.3)) for _ in range(4)]
    assert said[:3] == [None] * 3
    assert (said[3] or "").startswith("too_long")


def test_measures_do_not_depend_on_how_the_audio_is_cut() -> None:
    samples = join(silence(0.33), read(LONG))
    whole = Meter(RATE)
    whole.add(samples)
    pieces = Meter(RATE)
    for chunk in np.split(samples, [0, 1, 500, 9000, 9001, 20_000]):
        pieces.add(chunk)
    assert pieces.measures().dc_offset == pytest.approx(whole.measures().dc_offset, abs=1e-9)
    for name in ("duration_s", "speech_s", "peak", "leading_silence_s", "trailing_silence_s"):
        assert getattr(pieces.measures(), name) == getattr(whole.measures(), name)
    assert whole.measures().loudest_dbfs == pytest.approx(pieces.measures().loudest_dbfs)


#: Ordinary sentences with how long a reader takes: letters or syllables at the rates in `pace`.
ORDINARY = [
    ("en", "The wind rose before the morning came.", 2.4),
    ("en", "Yes.", 0.35),
    ("en", "No", 0.9),
    ("pt", "O vento levantou-se antes de a manhã chegar.", 2.5),
    ("ru", "Ветер поднялся ещё до наступления утра.", 2.6),
    ("ar", "هبت الريح قبل أن يأتي الصباح", 2.2),
    ("hi", "सुबह होने से पहले हवा चलने लगी", 2.3),
    ("zh-cn", "早晨来临之前起风了", 1.9),
    ("zh-cn", "zao3 chen2 lai2 lin2 zhi1 qian2 qi3 feng1 le5", 1.9),
    ("ja", "朝が来る前に風が吹き始めた", 2.3),
    ("ja", "asa ga kuru mae ni kaze ga fukihajimeta", 2.3),
    ("ko", "아침이 오기 전에 바람이 불었다", 2.2),
]


@pytest.mark.parametrize(("language", "text", "usual_s"), ORDINARY)
def test_ordinary_speech_lies_well_inside_the_range(
    language: str, text: str, usual_s: float
) -> None:
    allowed = plausible_duration(text, language)
    assert allowed.shortest_s < usual_s * 0.75
    assert usual_s * 1.6 < allowed.longest_s
    # A run-on of a long text must not hide in the slack.
    many = plausible_duration(text * 10, language)
    assert many.longest_s < 45 * usual_s


def test_numbers_left_in_the_text_allow_for_their_words() -> None:
    with_number = plausible_duration("Room 1987", "en")
    assert with_number.longest_s > plausible_duration("Room ", "en").longest_s + 2
    assert with_number.shortest_s == plausible_duration("Room ", "en").shortest_s


def test_the_check_costs_less_than_two_percent_of_the_audio() -> None:
    samples = np.tile(read(LONG), 4)
    best = min(_seconds_to_check(samples) for _ in range(5))
    assert best < 0.02 * len(samples) / RATE


def _seconds_to_check(samples: FloatArray) -> float:
    start = time.process_time()
    checker = ChunkChecker(RATE, longest_s=1e9)
    for chunk in np.split(samples, range(9000, len(samples), 9000)):
        checker.check(chunk)
    check_segment(samples, RATE, spoken=TEXTS[LONG])
    return time.process_time() - start
