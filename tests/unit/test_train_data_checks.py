"""Every fault of a clip is found, with what was seen and a remedy; good clips have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip_folders import (
    LONG_CLIP,
    LONG_TEXT,
    OTHER_CLIP,
    OTHER_TEXT,
    FloatArray,
    base_model,
    samples_of,
    written,
)

from train.data.checks import CheckedClip, ClipChecker, read_facts, save_facts
from train.data.findings import RULES, explain
from train.data.samples import Sample
from train.data.texts import LanguageChoice, choose_language, foreign_language, text_key

ENGLISH = LanguageChoice("en", "en", "test")


def check(audio: Path, text: str = LONG_TEXT, language: str = "", **changes: int) -> CheckedClip:
    checker = ClipChecker(base_model(**changes), ENGLISH, min_s=0.5, max_s=11.6)
    return checker(Sample("clip", audio, text, language=language))


def kinds(clip: CheckedClip) -> list[str]:
    for finding in clip.findings:
        assert RULES[finding.kind].remedy in explain(finding)
    return [finding.kind for finding in clip.findings]


def spoilt(tmp_path: Path, samples: FloatArray, text: str = LONG_TEXT) -> list[str]:
    return kinds(check(written(tmp_path / "clip.wav", samples, 24000), text))


@pytest.fixture
def samples() -> FloatArray:
    return samples_of(LONG_CLIP)[0]


def test_good_clips_have_no_findings() -> None:
    for audio, text in ((LONG_CLIP, LONG_TEXT), (OTHER_CLIP, OTHER_TEXT)):
        clip = check(audio, text)
        assert clip.usable
        assert clip.findings == ()
        assert len(clip.token_ids) > 5


def test_length(tmp_path: Path, samples: FloatArray) -> None:
    assert "too_short" in spoilt(tmp_path, samples[20000:30000], "Me.")
    assert "too_long" in spoilt(tmp_path, np.tile(samples, 5))
    clip = check(LONG_CLIP, max_codes=40)
    assert kinds(clip) == ["too_long"]
    assert "the model's limit is 1.9 s" in clip.findings[0].detail


def test_sound(tmp_path: Path, samples: FloatArray) -> None:
    quiet = np.zeros(48000, np.float32)
    rng = np.random.default_rng(1)
    hiss = (0.02 * rng.standard_normal(36000)).astype(np.float32)
    everywhere = samples + (0.05 * rng.standard_normal(len(samples))).astype(np.float32)
    assert spoilt(tmp_path, quiet) == ["silent"]
    assert spoilt(tmp_path, np.clip(samples * 10, -1, 1)) == ["clipped"]
    assert spoilt(tmp_path, np.concatenate((quiet, samples))) == ["long_edges"]
    assert spoilt(tmp_path, np.concatenate((samples, quiet))) == ["long_edges"]
    assert "noise_tail" in spoilt(tmp_path, np.concatenate((samples, hiss)))
    assert "noisy" in spoilt(tmp_path, everywhere)


def test_what_is_only_named_does_not_stop(tmp_path: Path, samples: FloatArray) -> None:
    pause = np.zeros(60000, np.float32)
    clip = check(
        written(tmp_path / "a.wav", np.concatenate((samples, pause, samples)), 24000),
        f"{LONG_TEXT} {LONG_TEXT}",
    )
    assert kinds(clip) == ["long_pause"]
    assert clip.usable
    low = check(written(tmp_path / "b.wav", samples[::3], 8000))
    assert kinds(low) == ["low_rate"]
    assert low.usable


def test_text_that_does_not_fit_its_audio() -> None:
    assert kinds(check(LONG_CLIP, "Yes.")) == ["implausible_rate"]
    much = check(OTHER_CLIP, " ".join([LONG_TEXT] * 4))
    assert kinds(much) == ["implausible_rate"]
    assert "takes at least" in much.findings[0].detail


def test_text_itself() -> None:
    assert kinds(check(LONG_CLIP, "  ...  ")) == ["empty_text"]
    assert kinds(check(LONG_CLIP, LONG_TEXT, max_text_tokens=10)) == ["text_too_long"]
    unknown = check(LONG_CLIP, "It occurred to me that 𒀀 would have to be here.")
    assert kinds(unknown) == ["unknown_characters"]
    assert "'𒀀'" in unknown.findings[0].detail


def test_numbers_are_read_out_as_the_service_does() -> None:
    clip = check(LONG_CLIP, "It occurred to me that 12 would have to be an accounting.")
    assert "twelve" in clip.spoken


def test_another_language() -> None:
    german = "Nun verfolgten die Helvetier die Römer und begannen, die Nachhut anzugreifen."
    assert kinds(check(LONG_CLIP, german)) == ["wrong_language"]
    assert kinds(check(LONG_CLIP, german, language="de-DE")) == []
    assert kinds(check(LONG_CLIP, "Привет, как дела?")) == ["wrong_language"]
    assert kinds(check(LONG_CLIP, LONG_TEXT, language="xx")) == ["wrong_language"]


@pytest.mark.parametrize(
    "text",
    [
        "Philip Steels, Jeanne Croisset, Gregson.",
        "Au revoir, mon ami, said the captain to his old friend from Lyon.",
        "Ah, indeed.",
    ],
)
def test_names_and_loan_words_are_no_other_language(text: str) -> None:
    assert foreign_language(text, "en") == ""


def test_language_of_all_clips() -> None:
    german = ["Das ist ein kurzer Satz.", "Wir gehen heute nicht in die Stadt.", "Und du?"]
    assert choose_language("auto", german, ("en", "de")).code == "de"
    refused = choose_language("auto", german, ("en",))
    assert "read like German" in refused.problem
    insisted = choose_language("en", german, ("en",))
    assert (insisted.code, insisted.reads_like, insisted.problem) == ("en", "de", "")


def test_takes_are_known_by_their_words() -> None:
    assert text_key("How old are you, Mother?") == text_key("how old are you mother")
    assert text_key("How old are you?") != text_key("How old is he?")


def test_facts_survive_the_disk_and_bad_files_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    facts = check(LONG_CLIP).facts
    save_facts(path, {facts.sha256: facts})
    assert read_facts(path) == {facts.sha256: facts}
    for content in (b"", b"{", b"[]", b'{"version": 0, "facts": {}}', b"\xff\xfe"):
        path.write_bytes(content)
        assert read_facts(path) == {}
