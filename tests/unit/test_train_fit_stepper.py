"""One step: nothing that is not finite reaches the weights, culprits are named, memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_runs import Watcher, prepared_clips, run_fit, setup_of, tiny_bundle, weights_of

from app.errors import DeviceError, OutputError
from app.models.bundles import Bundle
from train.data.prepared import PreparedClips
from train.fit.batch import FitBatch, Layout, draw_rows
from train.fit.network import FitGpt, RowLosses
from train.fit.quarantine import FILE_NAME
from train.fit.setup import FitSetup
from train.fit.stepper import share_of, split

LAYOUT = Layout(3, 0, 1024, 1025, 45, 102, 1024)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def clips(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> PreparedClips:
    return prepared_clips(tmp_path_factory.mktemp("clips"), bundle)


def test_a_clip_of_no_numbers_is_named_and_the_others_are_learnt(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clips = prepared_clips(tmp_path / "clips", bundle, nan=[5])
    watcher = Watcher()
    setup = setup_of(bundle, clips, tmp_path / "out")
    result = run_fit(setup, watcher)
    assert result.finished
    assert [aside["name"] for aside in result.quarantined] == ["clip5"]
    assert sum((step.quarantined for step in watcher.steps), ()) == ("clip5",)
    assert "clip5 is put aside" in caplog.text
    assert "its loss is not finite" in caplog.text
    assert "clip5" in (tmp_path / "out" / FILE_NAME).read_text()
    assert result.checkpoint is not None
    weights = weights_of(result.checkpoint)
    assert all(bool(torch.isfinite(w).all()) for w in weights.values() if w.is_floating_point())
    # both epochs learnt from all the others, each once
    heard = sum(clip.duration_s for clip in clips.side("train") if clip.name != "clip5")
    for epoch in (1, 2):
        told = sum(step.audio_s for step in watcher.steps if step.epoch == epoch)
        assert told == pytest.approx(heard)


def test_the_step_without_it_is_the_step_of_a_run_that_never_had_it(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path
) -> None:
    """The gradient of the bad clip leaves nothing behind: not in weights, not in the optimizer."""
    bad = prepared_clips(tmp_path / "clips", bundle, nan=[5])
    options: dict[str, Any] = {"batch_tokens": 10_000, "num_epochs": 1}
    first = setup_of(bundle, bad, tmp_path / "bad", **options)
    run_fit(first)
    second = setup_of(bundle, bad, tmp_path / "aside", **options)
    run = FitRunWithAside(second, index=5)
    run.run()
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])


def FitRunWithAside(setup: FitSetup, index: int) -> Any:  # noqa: N802 - makes one
    from train.fit.quarantine import aside_of
    from train.fit.run import FitRun

    run = FitRun(setup, ())
    clip = setup.clips.side("train")[index]
    run._quarantine.add([aside_of(index, clip, 0, "not_finite", "known before")])
    return run


def test_too_many_bad_clips_end_the_run_with_the_reason(bundle: Bundle, tmp_path: Path) -> None:
    clips = prepared_clips(tmp_path / "clips", bundle, nan=[0, 2, 4, 6, 8, 10])
    watcher = Watcher()
    with pytest.raises(OutputError, match=r"clips had to be put aside, more than 3: clip\d+"):
        run_fit(setup_of(bundle, clips, tmp_path / "out"), watcher)
    assert watcher.ends[0].startswith("ended by an error")


def test_a_model_that_gives_no_numbers_is_refused_at_the_start(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path
) -> None:
    setup = setup_of(bundle, clips, tmp_path / "out")
    with torch.no_grad():
        setup.network.final_norm.weight[0] = float("nan")
    with pytest.raises(OutputError, match="no finite loss on any held-out clip"):
        run_fit(setup)


def test_a_run_that_diverges_stops_and_blames_no_clip(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path
) -> None:
    setup = setup_of(bundle, clips, tmp_path / "out", num_epochs=50, batch_tokens=1000)

    class Breaks(Watcher):
        def step_done(self, facts: Any) -> None:
            super().step_done(facts)
            if facts.step == 3:
                with torch.no_grad():
                    setup.network.final_norm.weight[0] = float("nan")

    watcher = Breaks()
    with pytest.raises(OutputError, match=r"Training diverged.*Lower LEARNING_RATE"):
        run_fit(setup, watcher)
    assert not any(step.quarantined for step in watcher.steps)
    assert [bool(step.losses) for step in watcher.steps] == [True] * 3 + [False] * 4


def test_a_gradient_that_is_not_finite_moves_nothing(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup = setup_of(bundle, clips, tmp_path / "out", num_epochs=1)
    poison_gradients(setup.network, clips.side("train")[3].token_ids)
    result = run_fit(setup)
    assert [aside["name"] for aside in result.quarantined] == ["clip3"]
    assert "its gradient is not finite" in caplog.text
    state = setup.network.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in state.values())


def poison_gradients(network: FitGpt, token_ids: tuple[int, ...]) -> None:
    """Makes the way back of one clip's text give infinity, its loss staying as it is."""
    marks = torch.tensor(token_ids)
    forward = network.forward

    def poisoned(batch: FitBatch) -> RowLosses:
        losses = forward(batch)
        rows = batch.tokens[:, 1 : 1 + len(marks)]
        if rows.shape[1] == len(marks) and bool((rows == marks).all(1).any()) and network.training:
            weight = network.text_head.bias
            # sqrt has an infinite slope at zero
            extra = ((weight - weight.detach()).sum() * 1e30).abs().sqrt()
            return RowLosses(losses.text_sum + extra, losses.mel_sum, losses.rows)
        return losses

    network.forward = poisoned  # type: ignore[method-assign]


def limit_rows(network: FitGpt, most: int, *, unless_checkpointing: bool = False) -> list[int]:
    """Lets the network run out of memory with more rows; returns the sizes that were tried.

    Without gradients, at least one row fits.
    """
    tried: list[int] = []
    forward: Callable[[FitBatch], RowLosses] = network.forward

    def limited(batch: FitBatch) -> RowLosses:
        tried.append(batch.num_rows)
        limit = most if network.training else max(most, 1)
        if batch.num_rows > limit and not (unless_checkpointing and network.checkpointing):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return forward(batch)

    network.forward = limited  # type: ignore[method-assign]
    return tried


def test_out_of_memory_halves_the_pieces_and_learns_the_same(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"batch_tokens": 1000, "num_epochs": 2}
    plain = setup_of(bundle, clips, tmp_path / "plain", **options)
    whole = run_fit(plain)
    small = setup_of(bundle, clips, tmp_path / "small", **options)
    tried = limit_rows(small.network, most=2)
    halved = run_fit(small)
    assert "computing at most" in caplog.text
    assert max(tried) > 2
    assert halved.step == whole.step
    assert halved.history[0]["eval"] == pytest.approx(whole.history[0]["eval"], rel=1e-5)
    for small_row, whole_row in zip(halved.history[1:], whole.history[1:], strict=True):
        assert small_row["train"] == pytest.approx(whole_row["train"], rel=1e-4)
        assert small_row["eval"] == pytest.approx(whole_row["eval"], rel=1e-4)


def test_out_of_memory_with_one_clip_computes_layers_twice(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup = setup_of(bundle, clips, tmp_path / "out", num_epochs=1)
    limit_rows(setup.network, most=0, unless_checkpointing=True)
    assert run_fit(setup).finished
    assert "GRAD_CHECKPOINTING is switched on" in caplog.text


def test_out_of_memory_whatever_is_tried_ends_with_a_remedy(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path
) -> None:
    setup = setup_of(bundle, clips, tmp_path / "out", num_epochs=1)
    limit_rows(setup.network, most=0)
    with pytest.raises(DeviceError, match="LORA_RANK"):
        run_fit(setup)


def test_processes_share_a_step_without_loss(clips: PreparedClips) -> None:
    train = clips.side("train")
    batches = [
        draw_rows(train, part, (1, 0, n)) for n, part in enumerate([(0, 1, 2), (3,), (4, 5)])
    ]
    for world in (1, 2, 3, 4):
        parts = [share_of(batches, process, world) for process in range(world)]
        seen = sorted(row.index for part in parts for rows in part for row in rows)
        assert seen == list(range(6))
    rows = draw_rows(train, range(6), (1, 0, 0))
    pieces = list(split(rows, 250, LAYOUT))
    assert [row for piece in pieces for row in piece] == rows
    assert all(
        len(p) == 1 or len(p) * max(r.num_positions(LAYOUT) + 32 for r in p) <= 250 for p in pieces
    )
