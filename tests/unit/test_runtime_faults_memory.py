"""Out of memory and other faults of the stack inside the engine, on the bundle that ships.

What a GPU's allocator raises is raised here by the decoder once too many rows run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from test_synthesis import TEXTS, VoicesInMemory, make_synthesizer, model, pcm_of, request, speak

from app.devices import hardware
from app.engine.decoder import GptDecoder
from app.engine.job_row import JobRow
from app.engine.pieces import OneByOne, Piece
from app.errors import DeviceError
from app.messages import Audio, Done, Failed, PrepareVoice, Sampling
from app.models.capacity import choose_capacity
from app.models.loading import LoadedModel
from app.settings import Settings
from app.synthesis.memory import naming_faults
from app.synthesis.opening import describe
from app.synthesis.pressure import GROW_AFTER_S, RowLimit
from app.synthesis.synthesizer import Synthesizer

__all__ = ["model"]

CUDA_FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 11.76 GiB in total."
ONE_SEGMENT = "They were three hundred yards apart. Nobody spoke."
#: a row for each segment, whatever the model's default is
ask = partial(request, sampling=Sampling(guidance_scale=1.0))
REQUESTS = [ask(f"{i}", text, seed=i) for i, text in enumerate(TEXTS * 3)]


@pytest.fixture
def fill_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Lets the decoder run out of memory above so many rows; returns the sizes of its batches."""
    step = GptDecoder.step

    def fill(most: int) -> list[int]:
        sizes: list[int] = []

        def picky(self: GptDecoder, rows: Sequence[Any], tokens: Sequence[int]) -> Any:
            sizes.append(len(rows))
            if len(rows) > most:
                raise torch.OutOfMemoryError(CUDA_FULL)
            return step(self, rows, tokens)

        monkeypatch.setattr(GptDecoder, "step", picky)
        return sizes

    return fill


def verdicts(answers: list[Audio | Done | Failed]) -> list[str]:
    return [a.verdict.route for a in answers if isinstance(a, Audio | Done) and a.verdict]


def test_all_go_on_in_a_smaller_batch_with_the_same_samples(
    model: LoadedModel, fill_up: Callable[[int], list[int]]
) -> None:
    alone = {r.id: pcm_of(speak(make_synthesizer(model), r)[r.id]) for r in REQUESTS}
    sizes = fill_up(3)
    synthesizer = make_synthesizer(model)
    told = speak(synthesizer, *REQUESTS)
    assert {name: pcm_of(answers) for name, answers in told.items()} == alone
    assert sizes.count(4) == 1
    assert max(sizes[sizes.index(4) + 1 :]) == 2
    for answers in told.values():
        assert verdicts(answers)[-1] == "cpu; rows=2"
        done = answers[-1]
        assert isinstance(done, Done)
        assert done.verdict is not None
    noted = told["0"][-1]
    assert isinstance(noted, Done)
    assert noted.verdict is not None
    assert "memory ran out" in noted.verdict.notes[-1]


def test_a_live_request_goes_on_where_it_was_heard(
    model: LoadedModel, fill_up: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (long,) = (ask("live", ONE_SEGMENT, seed=5, live=True),)
    alone = pcm_of(speak(make_synthesizer(model), long)["live"])
    fill_up(1)
    synthesizer = make_synthesizer(model)
    told: list[Audio | Done | Failed] = []
    synthesizer.submit(long, told.append)
    while not told:
        synthesizer.step()
    synthesizer.submit(ask("late", TEXTS[0]), lambda _: None)
    while synthesizer.step():
        pass
    assert pcm_of(told) == alone
    assert verdicts(told)[0] == "cpu"
    assert verdicts(told)[-1] == "cpu; rows=1"


def test_what_was_heard_is_not_continued_with_something_else(
    model: LoadedModel, fill_up: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_up(1)
    synthesizer = make_synthesizer(model)
    told: list[Audio | Done | Failed] = []
    synthesizer.submit(ask("live", ONE_SEGMENT, seed=5, live=True), told.append)
    while not told:
        synthesizer.step()
    push = OneByOne.push

    def other(self: OneByOne, pieces: Sequence[Piece]) -> list[torch.Tensor]:
        return [-samples for samples in push(self, pieces)]

    monkeypatch.setattr(OneByOne, "push", other)
    synthesizer.submit(ask("late", TEXTS[0]), lambda _: None)
    while synthesizer.step():
        pass
    assert isinstance(told[-1], Failed)
    assert told[-1].error["kind"] == "UnavailableError"
    assert "memory ran out" in told[-1].error["message"]


def test_no_memory_for_one_row_ends_the_engine_by_its_name(
    model: LoadedModel, fill_up: Callable[[int], list[int]]
) -> None:
    sizes = fill_up(0)
    synthesizer = make_synthesizer(model)
    with pytest.raises(DeviceError, match="CUDA out of memory") as caught:
        speak(synthesizer, *REQUESTS)
    assert caught.value.code == "out_of_memory"
    assert sizes[-1] == 1


def test_a_voice_that_finds_no_memory_is_tried_again_with_fewer_beside_it(
    model: LoadedModel,
) -> None:
    synthesizer = make_synthesizer(model)
    latents = synthesizer._latents
    get, calls = latents.get, []

    def full_at_first(name: str) -> Any:
        calls.append(name)
        if len(calls) == 2:
            raise torch.OutOfMemoryError(CUDA_FULL)
        return get(name)

    latents.get = full_at_first  # type: ignore[method-assign]
    told: list[Audio | Done | Failed] = []
    synthesizer.submit(ask("one", TEXTS[1], seed=3), told.append)
    synthesizer.step()
    synthesizer.prepare_voice(PrepareVoice("voice", "kathleen"), told.append)
    assert len(calls) == 3
    assert told == [Done(id="voice")]
    while synthesizer.step():
        pass
    assert verdicts(told)[-1] == "cpu; rows=1"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("cuFFT error: CUFFT_INVALID_SIZE", "fft_failed"),
        ("CUDA error: an illegal memory access was encountered", "poisoned_context"),
        (
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
            "host_out_of_memory",
        ),
    ],
)
def test_faults_of_the_stack_get_their_names(words: str, code: str) -> None:
    with pytest.raises(DeviceError) as caught, naming_faults(torch.device("cpu")):
        raise RuntimeError(words)
    assert caught.value.code == code
    assert words in caught.value.message


def test_cufft_with_little_memory_left_is_a_lack_of_memory_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "host_memory", lambda: (100 << 20, 8 << 30))
    with pytest.raises(DeviceError) as caught, naming_faults(torch.device("cpu")):
        raise RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR")
    assert caught.value.code == "out_of_memory"


def test_a_fault_of_ours_is_not_blamed_on_the_stack() -> None:
    with pytest.raises(RuntimeError, match="shapes"), naming_faults(torch.device("cpu")):
        raise RuntimeError("shapes do not match")


def break_numbers(monkeypatch: pytest.MonkeyPatch, seeds: range) -> None:
    """Makes the logits of jobs with these seeds no numbers."""
    accept = JobRow.accept

    def poisoned(self: JobRow, logits: torch.Tensor, latent: torch.Tensor) -> Any:
        return accept(
            self, logits * float("nan") if self.job.options.seed in seeds else logits, latent
        )

    monkeypatch.setattr(JobRow, "accept", poisoned)


def test_numbers_that_are_none_are_the_requests_fault_where_others_still_speak(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_numbers(monkeypatch, range(77, 78))
    synthesizer = make_synthesizer(model, output_retries=0)
    told = speak(synthesizer, ask("bad", TEXTS[0], seed=77), ask("good", TEXTS[1]))
    assert isinstance(told["bad"][-1], Failed)
    assert told["bad"][-1].error["kind"] == "OutputError"
    assert isinstance(told["good"][-1], Done)
    assert not synthesizer.step()


def test_numbers_that_are_none_whatever_is_spoken_end_the_engine(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesizer = make_synthesizer(model)
    break_numbers(monkeypatch, range(2**63))
    with pytest.raises(DeviceError, match="wrong numbers") as caught:
        speak(synthesizer, ask("bad", TEXTS[0]))
    assert caught.value.code == "numbers_wrong"


def test_rows_halve_and_come_back_after_a_while() -> None:
    now = 0.0
    limit = RowLimit(16, lambda: now)
    assert limit.shrink(16)
    assert limit.rows == 8
    assert limit.shrink(3)
    assert limit.rows == 1
    assert not limit.shrink(1)
    assert not limit.grow()
    now = GROW_AFTER_S
    assert limit.grow()
    assert (limit.rows, limit.is_reduced) == (2, True)
    assert not limit.grow()
    for _ in range(3):
        now += GROW_AFTER_S
        assert limit.grow()
    assert (limit.rows, limit.is_reduced) == (16, False)
    now += GROW_AFTER_S
    assert not limit.grow()


def test_a_gpus_many_rows_become_fewer_too(
    model: LoadedModel, fill_up: Callable[[int], list[int]]
) -> None:
    """64 rows and no room of their own for caches, as on a card that holds them by the estimate."""
    alone = {r.id: pcm_of(speak(make_synthesizer(model), r)[r.id]) for r in REQUESTS[:3]}
    sizes = fill_up(5)
    settings = Settings(_env_file=None)
    capacity = choose_capacity(settings, "gpu")
    assert (capacity.rows.most, capacity.cache_bytes) == (64, None)
    info = describe(model, settings, "cpu", "a test")
    synthesizer = Synthesizer(model, VoicesInMemory(model.voices), settings, info, capacity)
    told = speak(synthesizer, *REQUESTS)
    assert max(sizes) == 6
    assert {name: pcm_of(told[name]) for name in alone} == alone
    assert verdicts(told["0"])[-1] == "cpu; rows=3"
