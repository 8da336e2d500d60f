"""A run goes on where it was, to the same bits; what it may not go on with is named."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_runs import Watcher, prepared_clips, run_fit, setup_of, tiny_bundle, weights_of

from app.errors import SettingsError
from app.models.bundles import BUILTIN, Bundle, builtin_folder, read_checkpoint, read_folder
from train.checkpoints import list_checkpoints
from train.data.base_model import describe_base
from train.data.dvae_files import find_dvae
from train.data.levelling import levelling_of
from train.data.prepared import PreparedClips
from train.fit.epoch_file import write_companions
from train.fit.held_out import HeldOut
from train.fit.run import rate_share


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def clips(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> PreparedClips:
    return prepared_clips(tmp_path_factory.mktemp("clips"), bundle)


class Terminator(Watcher):
    """Sends SIGTERM to this process after so many steps of a start."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def step_done(self, facts: Any) -> None:
        super().step_done(facts)
        if len(self.steps) == self._after:
            os.kill(os.getpid(), signal.SIGTERM)


def equal_weights(one: Path, two: Path) -> bool:
    first, second = weights_of(one), weights_of(two)
    return list(first) == list(second) and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"dropout": 0.2, "accumulation": 2}, {"lora_rank": 4}],
    ids=["plain", "dropout and accumulation", "adapters"],
)
def test_stopped_anywhere_it_ends_with_the_same_bits(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = run_fit(setup_of(bundle, clips, tmp_path / "whole", **options))
    steps: list[int] = []
    for after in (1, 2, 1, 3, 2, 100):
        watcher = Terminator(after)
        result = run_fit(setup_of(bundle, clips, tmp_path / "broken", **options), watcher)
        steps += [facts.step for facts in watcher.steps]
        assert watcher.plans[0].first_step == len(steps) - len(watcher.steps)
        if result.finished:
            break
        assert result.reason.startswith("stopped")
        assert watcher.ends == [result.reason]
    assert result.finished
    assert steps == list(range(1, whole.step + 1))
    assert result.history == whole.history
    for epoch in (1, 2):
        name = f"checkpoints/checkpoint_epoch_{epoch}.pt"
        assert equal_weights(tmp_path / "whole" / name, tmp_path / "broken" / name)


def test_stopped_in_an_evaluation_the_epoch_is_ended_at_the_next_start(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_fit(setup_of(bundle, clips, tmp_path / "whole"))
    # a start that is stopped while it looks at the starting model, one at the end of an epoch
    seen: list[str] = []
    evaluate = HeldOut.losses

    def stopped(self: HeldOut, *args: Any) -> dict[str, float]:
        seen.append("evaluation")
        if len(seen) in (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(self, *args)

    monkeypatch.setattr(HeldOut, "losses", stopped)
    output = tmp_path / "broken"
    watchers = [Watcher() for _ in range(3)]
    results = [run_fit(setup_of(bundle, clips, output), watcher) for watcher in watchers]
    assert [result.finished for result in results] == [False, False, True]
    assert (watchers[0].plans, watchers[0].ends) == ([], [])
    assert [facts.epoch for facts in watchers[1].epochs] == []
    assert [facts.epoch for facts in watchers[2].epochs] == [1, 2]
    steps = [facts.step for watcher in watchers for facts in watcher.steps]
    assert steps == list(range(1, whole.step + 1))
    assert results[2].history == whole.history


def test_a_damaged_newest_state_falls_back_to_the_same_end(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run_fit(setup_of(bundle, clips, tmp_path / "whole"))
    output = tmp_path / "broken"
    for after in (2, 2):
        run_fit(setup_of(bundle, clips, output), Terminator(after))
    newest = list_checkpoints(output / "state")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    # a clock that was set back makes the older file look newer
    os.utime(newest, (0, 0))
    watcher = Watcher()
    result = run_fit(setup_of(bundle, clips, output), watcher)
    assert f"{newest.name} is damaged" in caplog.text
    assert watcher.steps[0].step == 3
    assert whole.checkpoint is not None
    assert result.checkpoint is not None
    assert equal_weights(whole.checkpoint, result.checkpoint)


def test_a_finished_run_goes_on_when_epochs_are_added(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    first = run_fit(setup_of(bundle, clips, tmp_path, num_epochs=1))
    again = Watcher()
    assert run_fit(setup_of(bundle, clips, tmp_path, num_epochs=1), again).finished
    assert again.steps == []
    more = Watcher()
    result = run_fit(setup_of(bundle, clips, tmp_path, num_epochs=2, learning_rate=2e-3), more)
    assert "NUM_EPOCHS=1 -> 2" in caplog.text
    assert "LEARNING_RATE=0.001 -> 0.002" in caplog.text
    assert more.steps[0].step == first.step + 1
    assert result.history[:2] == first.history


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"batch_tokens": 500}, "BATCH_TOKENS was 400 and is 500"),
        ({"train_seed": 2}, "TRAIN_SEED was 1 and is 2"),
        ({"lora_rank": 2}, "LORA_RANK was 0 and is 2"),
        ({"coqui_compatible_mask": True}, "COQUI_COMPATIBLE_MASK was False and is True"),
    ],
)
def test_settings_that_a_run_stands_on_are_refused_by_name(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    run_fit(setup_of(bundle, clips, tmp_path, num_epochs=1))
    with pytest.raises(SettingsError, match=named):
        run_fit(setup_of(bundle, clips, tmp_path, **changed))


def test_other_clips_and_another_model_are_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    # as the cache lies: one list of clips after another in one folder
    clips = prepared_clips(tmp_path / "clips", bundle)
    output = tmp_path / "out"
    run_fit(setup_of(bundle, clips, output, num_epochs=1))
    fewer = PreparedClips.write(clips.path.parent, clips.made_for, clips[1:])
    with pytest.raises(SettingsError, match="gone or not usable any more: clip0"):
        run_fit(setup_of(bundle, fewer, output))
    other = tiny_bundle(tmp_path / "other")
    with pytest.raises(SettingsError, match="BASE_MODEL is now tiny with other weights"):
        run_fit(setup_of(other, clips, output))
    # nothing was touched: the first run still goes on
    assert run_fit(setup_of(bundle, clips, output, num_epochs=2)).finished


def test_the_rate_rises_then_falls() -> None:
    rises = [rate_share(step, 4, 0.0) for step in range(6)]
    assert rises == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rate_share(100, 4, 0.5) == pytest.approx(0.5)
    assert rate_share(100, 4, 1.0) == pytest.approx(0.05)
    assert rate_share(0, 0, 0.0) == 1.0


def test_a_checkpoint_is_a_model_to_start_from(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path
) -> None:
    first = run_fit(setup_of(bundle, clips, tmp_path / "first"))
    assert first.checkpoint is not None
    checkpoint = read_checkpoint(first.checkpoint)
    assert checkpoint.front_end == bundle.front_end
    second = run_fit(setup_of(checkpoint, clips, tmp_path / "second", num_epochs=1))
    assert second.history[0]["eval"] == pytest.approx(first.history[-1]["eval"], rel=1e-6)


def test_a_checkpoint_keeps_what_its_vocabulary_is_fed_with(tmp_path: Path) -> None:
    bundle = read_folder(builtin_folder(), BUILTIN)
    assert bundle.front_end == "phonemes"
    write_companions(tmp_path, bundle)
    (tmp_path / "checkpoint_epoch_1.pt").touch()
    checkpoint = read_checkpoint(tmp_path / "checkpoint_epoch_1.pt")
    assert checkpoint.front_end == "phonemes"
    # its DVAE, and the level of its recordings, lie where preparing looks for them
    assert find_dvae(checkpoint, describe_base(checkpoint)).weights.is_file()
    assert levelling_of(checkpoint) == levelling_of(bundle)


def test_after_an_epoch_the_weights_are_not_written_twice(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"num_epochs": 1, "save_every_min": 1e-6}
    first = run_fit(setup_of(bundle, clips, tmp_path / "linked", **options))
    (state,) = list_checkpoints(tmp_path / "linked" / "state")
    (beside,) = (tmp_path / "linked" / "state").glob("beside-*.pt")
    assert first.checkpoint is not None
    assert beside.samefile(first.checkpoint)

    def refused(*_: object) -> None:
        raise OSError("no hard links here")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refused)
        run_fit(setup_of(bundle, clips, tmp_path / "plain", **options))
    (plain,) = list_checkpoints(tmp_path / "plain" / "state")
    # the optimizer's two means, and not the weights as well
    assert state.stat().st_size < 0.75 * plain.stat().st_size

    # whoever removes the checkpoint takes nothing from the run
    first.checkpoint.unlink()
    more = {**options, "num_epochs": 2}
    one = run_fit(setup_of(bundle, clips, tmp_path / "linked", **more))
    two = run_fit(setup_of(bundle, clips, tmp_path / "plain", **more))
    assert one.checkpoint is not None
    assert two.checkpoint is not None
    assert one.step > first.step
    assert equal_weights(one.checkpoint, two.checkpoint)


def test_with_8_bit_means_it_goes_on_to_the_same_bits_and_with_others_it_does_not(
    bundle: Bundle, clips: PreparedClips, tmp_path: Path
) -> None:
    options = {"optimizer": "adamw8bit"}
    whole = run_fit(setup_of(bundle, clips, tmp_path / "whole", **options))
    run_fit(setup_of(bundle, clips, tmp_path / "broken", **options), Terminator(2))
    with pytest.raises(SettingsError, match="OPTIMIZER was adamw8bit and is adamw"):
        run_fit(setup_of(bundle, clips, tmp_path / "broken"))
    result = run_fit(setup_of(bundle, clips, tmp_path / "broken", **options))
    assert result.history == whole.history
    assert whole.checkpoint is not None
    assert result.checkpoint is not None
    assert equal_weights(whole.checkpoint, result.checkpoint)
    assert whole.history[-1]["train"]["loss"] < whole.history[1]["train"]["loss"]
