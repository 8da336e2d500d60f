"""Speech held against recordings: whose voice it is, folders of clips, a service's answers."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from app.errors import InputError, SettingsError, UnavailableError
from train.evaluation import Sentence, evaluate
from train.judging.against import compare
from train.judging.recordings import RATE, Recordings, read_recordings
from train.judging.speaker import SpeakerModels
from train.judging.speaking import Samples, ThroughService


def voice(formant_hz: float, seed: int, seconds: float = 1.0) -> Samples:
    """Returns syllables of noise around a resonance: a "speaker" that only timbre tells apart."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(int(seconds * RATE))
    spectrum = np.fft.rfft(noise)
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    spectrum *= 0.02 + 1 / (1 + ((hertz - formant_hz) / 150) ** 2)
    samples = np.fft.irfft(spectrum, len(noise))
    samples *= np.sin(np.arange(len(noise)) * 4 * np.pi / RATE) ** 2
    made: Samples = (0.5 * samples / np.abs(samples).max()).astype(np.float32)
    return made


SPEAKERS = {
    name: [voice(hertz, seed) for seed in range(6)]
    for name, hertz in (("low", 500), ("high", 1500))
}


def test_unseen_clips_are_nearest_to_their_own_speaker() -> None:
    models = SpeakerModels(SPEAKERS, RATE)
    for name, hertz in (("low", 500), ("high", 1500)):
        verdict = models.judge(voice(hertz, 99), RATE, name)
        assert verdict.nearest == name
        assert verdict.margin > 0


def test_another_speakers_clip_is_not_taken_for_the_claimed_one() -> None:
    verdict = SpeakerModels(SPEAKERS, RATE).judge(voice(1500, 99), RATE, "low")
    assert verdict.nearest == "high"
    assert verdict.margin < 0


def test_loudness_does_not_tell_speakers_apart() -> None:
    models = SpeakerModels(SPEAKERS, RATE)
    clip = voice(500, 99)
    assert models.scores(clip, RATE)["low"] == pytest.approx(
        models.scores(0.2 * clip, RATE)["low"], abs=0.05
    )


class Parrot:
    """Speaks what it was given for a sentence."""

    voice = "low"
    sample_rate = RATE

    def __init__(self, spoken: dict[str, Samples | None]) -> None:
        self._spoken = spoken

    def speak(self, name: str, text: str, seed: int) -> Samples | None:
        return self._spoken[name]


class Deaf:
    """Hears one word whatever is said."""

    def transcribe(self, samples: Samples, sample_rate: int) -> str:
        return "one"


def test_figures_that_need_recordings_are_given_or_left_out_with_a_reason() -> None:
    sentences = [Sentence(str(i), "One two.", 1.0) for i in range(6)]
    spoken: dict[str, Samples | None] = {str(i): voice(500, 50 + i) for i in range(6)}
    spoken["5"] = None
    evaluation = evaluate(Parrot(spoken), sentences, Deaf())
    assert evaluation.scores.refused == pytest.approx(1 / 6)
    own = {str(i): clip for i, clip in enumerate(SPEAKERS["low"])}
    full = Recordings(own, {"high": SPEAKERS["high"]})

    found = compare(evaluation, sentences, full, Deaf(), bundle=None)
    assert found.figures["recording_wer"] == pytest.approx(0.5)
    assert found.figures["speaker_nearest"] == 1.0
    assert found.figures["recording_speaker_nearest"] == 1.0
    assert list(found.left_out) == ["copy_mel"]

    alone = compare(evaluation, sentences, Recordings(own), Deaf(), bundle=None)
    assert set(alone.left_out) == {"speaker_nearest", "copy_mel"}
    bare = compare(evaluation, sentences, Recordings(), Deaf(), bundle=None)
    assert bare.figures == {}
    assert set(bare.left_out) == {"recording_wer", "speaker_nearest", "copy_mel"}


def test_recordings_are_found_by_the_names_of_sentences(tmp_path: Path) -> None:
    (tmp_path / "ann" / "wavs").mkdir(parents=True)
    (tmp_path / "bob").mkdir()
    soundfile.write(tmp_path / "ann" / "wavs" / "a1.wav", np.zeros((100, 2)), 24000)
    soundfile.write(tmp_path / "bob" / "b1.flac", np.zeros(50), 12000)
    found = read_recordings(["a1", "a2"], tmp_path / "ann", [tmp_path / "bob"])
    assert {name: len(clip) for name, clip in found.own.items()} == {"a1": 100}
    assert [len(clip) for clip in found.others["bob"]] == [100]
    with pytest.raises(SettingsError, match="no recording of these sentences"):
        read_recordings(["a2"], tmp_path / "ann", [])
    with pytest.raises(SettingsError, match="holds no audio"):
        read_recordings([], None, [tmp_path])


@contextmanager
def answering(status: int, body: bytes) -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Yields the URL of a server that answers everything so, and what it was asked."""
    asked: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_is_asked_with_voice_and_seed() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(240, 0.25), 24000, format="WAV")
    with answering(200, buffer.getvalue()) as (url, asked):
        samples = ThroughService(url, "low").speak("s1", "One two.", 7)
    assert samples is not None
    assert torch.allclose(torch.from_numpy(samples), torch.tensor(0.25), atol=1e-4)
    assert asked[0]["input"] == "One two."
    assert (asked[0]["voice"], asked[0]["seed"]) == ("low", 7)


def test_refused_speech_counts_and_other_answers_end_the_evaluation() -> None:
    refused = b'{"error": {"message": "no", "code": "output_invalid"}}'
    with answering(500, refused) as (url, _):
        assert ThroughService(url, "low").speak("s1", "One.", 1) is None
    with (
        answering(404, b'{"error": {"message": "No voice low."}}') as (url, _),
        pytest.raises(InputError, match="No voice low"),
    ):
        ThroughService(url, "low").speak("s1", "One.", 1)
    with pytest.raises(UnavailableError, match="does not answer"):
        ThroughService("http://127.0.0.1:1", "low").speak("s1", "One.", 1)
