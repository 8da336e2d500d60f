"""Requests over one batch: order, seeds, checks and retries, on the bundle that ships."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from app.audio.joints import SENTENCE_PAUSE_S
from app.audio.pcm import from_s16
from app.audio.validate import longest_plausible_s
from app.engine.types import Conditioning
from app.errors import InputError, NotFoundError
from app.messages import Audio, Done, Failed, Sampling, Speak
from app.models.bundles import BUILTIN, find_bundle
from app.models.loading import LoadedModel, load_model
from app.settings import Settings
from app.synthesis.opening import describe
from app.synthesis.seeds import segment_seed
from app.synthesis.synthesizer import Synthesizer

TEXTS = [
    "Yes, of course.",
    "The wind rose before the morning came.",
    "They were three hundred yards apart. Nobody spoke. The storm began in the night.",
]


class VoicesInMemory:
    """Gives the bundle's voices, and any that a test adds."""

    def __init__(self, voices: dict[str, Conditioning]) -> None:
        self.voices = dict(voices)

    def get(self, name: str) -> Conditioning:
        if name not in self.voices:
            raise NotFoundError(f"no voice {name}", param="voice")
        return self.voices[name]


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(find_bundle(BUILTIN, Settings(_env_file=None)))


def make_synthesizer(model: LoadedModel, **settings: object) -> Synthesizer:
    chosen = Settings(_env_file=None, **settings)
    info = describe(model, chosen, "cpu", "a test")
    return Synthesizer(model, VoicesInMemory(model.voices), chosen, info)


def speak(synthesizer: Synthesizer, *requests: Speak) -> dict[str, list[Audio | Done | Failed]]:
    """Runs requests together to their ends and returns what each was told."""
    told: dict[str, list[Audio | Done | Failed]] = {r.id: [] for r in requests}
    for request in requests:
        synthesizer.submit(request, lambda answer: told[answer.id].append(answer))
    while synthesizer.step():
        pass
    return told


def pcm_of(answers: list[Audio | Done | Failed]) -> bytes:
    assert isinstance(answers[-1], Done), answers[-1]
    return sound_of(answers)


def sound_of(answers: list[Audio | Done | Failed]) -> bytes:
    return b"".join(a.pcm for a in answers if isinstance(a, Audio))


def request(name: str, text: str, **fields: object) -> Speak:
    fields.setdefault("seed", 1)
    return Speak(id=name, text=text, voice="kathleen", language="en", **fields)


@pytest.fixture(scope="module")
def synthesizer(model: LoadedModel) -> Iterator[Synthesizer]:
    return make_synthesizer(model)


def test_same_seed_same_samples_alone_and_in_company(synthesizer: Synthesizer) -> None:
    requests = [
        request(f"{i}", text, seed=i, live=bool(i % 2), speed=(1.0, 1.3, 0.8)[i % 3])
        for i, text in enumerate(TEXTS * 3)
    ]
    together = speak(synthesizer, *requests)
    for one in requests:
        # the last answer as well: a take that fails its checks fails them in both
        alone = speak(synthesizer, one)[one.id]
        assert alone[-1] == together[one.id][-1]
        assert sound_of(alone) == sound_of(together[one.id])
    assert sum(isinstance(answers[-1], Done) for answers in together.values()) > len(requests) / 2


def test_live_and_whole_are_the_same_samples(synthesizer: Synthesizer) -> None:
    whole = speak(synthesizer, request("w", TEXTS[2]))["w"]
    live = speak(synthesizer, request("l", TEXTS[2], live=True))["l"]
    assert pcm_of(whole) == pcm_of(live)
    assert len(live) > len(whole)


def test_segments_come_in_order_with_pauses_between(model: LoadedModel) -> None:
    text = " ".join(
        f"{word} went home early in the morning and did not return."
        for word in (
            "Anna",
            "Bertram",
            "Cecilia",
            "Dorothy",
            "Edward",
            "Frederick",
            "Gustav",
            "Henrietta",
            "Isabella",
            "Jonathan",
        )
    )
    answers = speak(make_synthesizer(model, max_batch_rows=2), request("r", text))["r"]
    audio = [a for a in answers if isinstance(a, Audio)]
    assert [a.segment for a in audio] == list(range(audio[0].num_segments))
    assert audio[0].num_segments > 1
    pause = round(SENTENCE_PAUSE_S * 24000)
    for part in audio[:-1]:
        assert not from_s16(part.pcm)[-pause:].any()
    assert from_s16(audio[-1].pcm)[-pause:].any()


def test_unseeded_requests_differ_and_tell_their_seed(synthesizer: Synthesizer) -> None:
    first, second = (speak(synthesizer, request(n, TEXTS[1], seed=None))[n] for n in ("a", "b"))
    assert pcm_of(first) != pcm_of(second)
    seed = first[-1].seed
    again = speak(synthesizer, request("c", TEXTS[1], seed=seed))["c"]
    assert pcm_of(again) == pcm_of(first)


def test_guidance_is_the_models_unless_asked_for(model: LoadedModel) -> None:
    def speech(default: float, asked: float | None = None) -> bytes:
        sampling = model.sampling.model_copy(update={"guidance_scale": default})
        synthesizer = make_synthesizer(dataclasses.replace(model, sampling=sampling))
        wanted = request("r", TEXTS[0], seed=5, sampling=Sampling(guidance_scale=asked))
        return pcm_of(speak(synthesizer, wanted)["r"])

    assert speech(2.0) == speech(1.0, 2.0) != speech(1.0)
    assert speech(2.0, 1.0) == speech(1.0)


def test_a_segment_that_fails_its_checks_is_made_again_with_another_seed(
    model: LoadedModel,
) -> None:
    # Hot sampling runs on now and then; the search ends at the first seed that does so once.
    synthesizer = make_synthesizer(model, output_retries=6)
    hot = Sampling(temperature=2.5, top_k=0, top_p=1.0)
    for seed in range(60):
        answers = speak(synthesizer, request("r", TEXTS[0], seed=seed, sampling=hot))["r"]
        done = answers[-1]
        if isinstance(done, Done) and done.verdict.status == "retried":
            break
    else:
        pytest.fail("no seed needed a second try")
    assert done.verdict.retries == len(done.verdict.notes) > 0
    attempt = segment_seed(seed, 0, done.verdict.retries)
    direct = speak(synthesizer, request("d", TEXTS[0], seed=attempt, sampling=hot))["d"]
    assert pcm_of(direct) == pcm_of(answers)


def test_numbers_that_are_none_end_in_a_clear_error(model: LoadedModel) -> None:
    synthesizer = make_synthesizer(model, output_retries=1)
    broken = model.voices["kathleen"]
    broken = Conditioning(broken.gpt_latents * float("nan"), broken.speaker_embedding)
    synthesizer._latents.voices["broken"] = broken
    asked = msgspec.structs.replace(request("r", TEXTS[0]), voice="broken")
    answers = speak(synthesizer, asked)["r"]
    assert [type(a) for a in answers] == [Failed]
    assert answers[0].error["kind"] == "OutputError"
    assert "2 tries" in answers[0].error["message"]
    assert synthesizer.num_rows == 0


def test_cancel_empties_the_batch_before_the_next_step(synthesizer: Synthesizer) -> None:
    told: list[object] = []
    synthesizer.submit(request("gone", TEXTS[2], live=True), told.append)
    synthesizer.submit(request("stays", TEXTS[0]), told.append)
    synthesizer.step()
    synthesizer.cancel("gone")
    synthesizer.cancel("never was")
    assert synthesizer.num_rows + synthesizer.num_waiting == 1
    before = [t for t in told if t.id == "gone"]
    while synthesizer.step():
        pass
    assert [t for t in told if t.id == "gone"] == before
    assert isinstance(told[-1], Done)


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"voice": "nobody"}, NotFoundError, "voice"),
        ({"language": "xx"}, InputError, "language"),
        ({"text": "?!"}, InputError, "input"),
        ({"speed": 0.0}, InputError, "speed"),
        ({"seed": -1}, InputError, "seed"),
        ({"sampling": Sampling(temperature=0.0)}, InputError, "temperature"),
        ({"sampling": Sampling(top_p=7.0)}, InputError, "top_p"),
        ({"sampling": Sampling(guidance_scale=-1.0)}, InputError, "guidance_scale"),
    ],
)
def test_bad_requests_leave_nothing_behind(
    synthesizer: Synthesizer, fields: dict[str, object], error: type[Exception], param: str
) -> None:
    fields = {"id": "bad", "text": "Hello.", "voice": "kathleen", "language": "en", **fields}
    with pytest.raises(error) as caught:
        synthesizer.submit(Speak(**fields), lambda _: None)
    assert caught.value.param == param
    assert synthesizer.num_rows + synthesizer.num_waiting == 0


def test_warm_up_speaks_a_checked_sentence(synthesizer: Synthesizer) -> None:
    synthesizer.warm_up()
    assert synthesizer.num_rows == 0


def test_a_text_is_split_where_the_model_s_audio_would_not_last(
    synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longest_s() -> float:
        segments = synthesizer._plan(request("a", "the quick brown fox jumps " * 40)).segments
        return max(longest_plausible_s(segment.spoken, "en") for segment in segments)

    # as if this model's audio lasted a fifth as long
    monkeypatch.setattr("app.synthesis.planning._PLAUSIBLE_PER_CALM", 2.0 / 5)
    speech = synthesizer._model.speech
    sizes = speech.vocoder.sizes
    audio_s = speech.max_audio_tokens * sizes.code_stride / sizes.input_sample_rate
    assert longest_s() <= 2.0 / 5 * audio_s
    monkeypatch.undo()
    assert 2.0 / 5 * audio_s < longest_s() <= 2.0 * audio_s


def test_audio_is_speech_shaped(synthesizer: Synthesizer) -> None:
    samples = from_s16(pcm_of(speak(synthesizer, request("r", TEXTS[1]))["r"]))
    assert 1.0 < len(samples) / 24000 < 6.0
    assert np.abs(samples).max() < 1.0


def test_no_segment_is_longer_than_the_model_learnt_to_say(model: LoadedModel) -> None:
    assert model.max_segment_chars is not None
    text = "They were three hundred yards apart when the storm began, and nobody spoke of it, " * 6
    synthesizer = make_synthesizer(model)
    plan = synthesizer._plan(request("r", text))
    assert max(len(segment.spoken) for segment in plan.segments) <= model.max_segment_chars
    unbound = make_synthesizer(dataclasses.replace(model, max_segment_chars=None))
    assert len(unbound._plan(request("r", text)).segments) < len(plan.segments)
