"""What is measured of recordings: real clips, and the same ones spoilt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip_folders import LONG_CLIP, OTHER_CLIP, FloatArray, samples_of, written

from app.audio.encode import encode_whole
from app.audio.pcm import to_s16
from train.data.audio_facts import AudioFacts, measure_file


def spoilt(tmp_path: Path, samples: FloatArray, rate: int = 24000) -> AudioFacts:
    return measure_file(written(tmp_path / "clip.wav", samples, rate))


def noise(seconds: float, dbfs: float, rate: int = 24000) -> FloatArray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(int(seconds * rate)) * 10 ** (dbfs / 20)).astype(np.float32)


def test_a_good_clip() -> None:
    facts = measure_file(LONG_CLIP)
    assert (facts.fault, facts.sample_rate) == ("", 24000)
    assert facts.duration_s == pytest.approx(samples_of(LONG_CLIP)[0].size / 24000)
    assert -30 < facts.loudest_dbfs < -10
    assert facts.noise_tail_s < 0.3
    assert not facts.ends_in_click
    assert facts.noise_distance_db > 15


@pytest.mark.parametrize("fmt", ["mp3", "opus", "aac", "flac", "wav"])
def test_formats_of_ffmpeg(tmp_path: Path, fmt: str) -> None:
    samples, rate = samples_of(LONG_CLIP)
    path = tmp_path / f"clip.{fmt}"
    path.write_bytes(encode_whole(fmt, rate, to_s16(samples)))
    facts = measure_file(path)
    assert facts.fault == ""
    assert facts.duration_s == pytest.approx(len(samples) / rate, abs=0.1)


@pytest.mark.parametrize(
    ("name", "subtype", "rate"),
    [
        ("a.wav", "PCM_24", 96000),
        ("a.wav", "FLOAT", 44100),
        ("a.wav", "ULAW", 8000),
        ("a.wav", "GSM610", 8000),
        ("a.nist", "PCM_16", 16000),
        ("a.paf", "PCM_16", 22050),
        ("a.aiff", "PCM_S8", 22050),
        ("a.caf", "PCM_16", 11025),
        ("a.rf64", "PCM_16", 22050),
    ],
)
def test_formats_of_libsndfile(tmp_path: Path, name: str, subtype: str, rate: int) -> None:
    samples = samples_of(LONG_CLIP)[0]
    facts = measure_file(written(tmp_path / name, samples, rate, subtype))
    assert (facts.fault, facts.sample_rate) == ("", rate)


def test_files_that_are_not_there_or_no_audio(tmp_path: Path) -> None:
    assert measure_file(tmp_path / "absent.wav").fault == "missing"
    junk = tmp_path / "junk.wav"
    junk.write_bytes(b"not audio at all")
    assert measure_file(junk).fault == "unreadable"
    assert "16 bytes" in measure_file(junk).detail
    assert measure_file(tmp_path).fault == "unreadable"  # a folder
    cut = tmp_path / "cut.flac"
    cut.write_bytes(LONG_CLIP.read_bytes()[:100])
    assert measure_file(cut).fault in ("unreadable", "too_short")


def test_silent_not_finite_and_telephone_rates(tmp_path: Path) -> None:
    assert spoilt(tmp_path, np.zeros(48000, np.float32)).fault == "silent"
    assert spoilt(tmp_path, noise(1, -20, 6000), 6000).fault == "sample_rate"
    samples = samples_of(LONG_CLIP)[0].copy()
    samples[1000] = np.nan
    path = written(tmp_path / "nan.wav", samples, 24000, "FLOAT")
    assert measure_file(path).fault == "non_finite"


def test_steady_noise_after_the_speech_is_found_at_any_level(tmp_path: Path) -> None:
    samples = samples_of(OTHER_CLIP)[0]
    for dbfs in (-45, -35, -25):
        facts = spoilt(tmp_path, np.concatenate((samples, noise(1.2, dbfs))))
        assert facts.noise_tail_s == pytest.approx(1.2, abs=0.25), dbfs
    hum = 0.05 * np.sin(np.arange(24000) * 2 * np.pi * 100 / 24000)
    facts = spoilt(tmp_path, np.concatenate((samples, hum.astype(np.float32))))
    assert facts.noise_tail_s == pytest.approx(1.0, abs=0.25)


def test_silence_after_the_speech_is_no_noise(tmp_path: Path) -> None:
    samples = samples_of(OTHER_CLIP)[0]
    facts = spoilt(tmp_path, np.concatenate((samples, noise(2, -75))))
    assert facts.noise_tail_s == 0
    assert facts.trailing_s >= 2


def test_a_click_after_a_pause_is_found(tmp_path: Path) -> None:
    samples = samples_of(OTHER_CLIP)[0]
    pause, click = noise(0.6, -75), noise(0.04, -25)
    assert spoilt(tmp_path, np.concatenate((samples, pause, click, pause[:2000]))).ends_in_click
    word = samples[12000:24000]
    assert not spoilt(tmp_path, np.concatenate((samples, pause, word))).ends_in_click


def test_overdriven_samples_are_counted(tmp_path: Path) -> None:
    samples = samples_of(LONG_CLIP)[0]
    loud = np.clip(samples * (6 / np.abs(samples).max()), -1, 1)
    assert spoilt(tmp_path, loud).clipped_share > 0.005
    assert spoilt(tmp_path, samples * (0.99 / np.abs(samples).max())).clipped_share == 0


def test_what_is_known_is_not_measured_again() -> None:
    facts = measure_file(LONG_CLIP)
    marked = AudioFacts(facts.sha256, duration_s=123.0)
    assert measure_file(LONG_CLIP, {facts.sha256: marked}) is marked
    assert measure_file(OTHER_CLIP, {facts.sha256: marked}).duration_s < 10
