"""Reading weight files: the dialects, and everything that a file can have wrong with it."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from app.errors import ModelFileError
from app.models.weights import fill_module, read_pickle, read_state, to_float32, unfilled

STATE = {
    "gpt.final_norm.weight": torch.arange(4.0),
    "gpt.final_norm.bias": torch.ones(4),
    "mel_stats": torch.full((80,), 2.0),
}


class Evil:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def assert_equal(state: dict[str, torch.Tensor]) -> None:
    assert set(state) == set(STATE)
    for name, value in STATE.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}])
def test_torch_files_with_and_without_a_wrapper(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    torch.save(wrap(STATE), tmp_path / "model.pth")
    assert_equal(read_state(tmp_path / "model.pth"))


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    assert_equal(read_state(tmp_path / "model.safetensors"))


def test_trainer_checkpoints_lose_prefix_and_companions(tmp_path: Path) -> None:
    model = {f"xtts.{name}": value for name, value in STATE.items()}
    model |= {
        "dvae.codebook.embed": torch.zeros(3),
        "torch_mel_spectrogram_dvae.mel_norms": torch.zeros(3),
        "torch_mel_spectrogram_style_encoder.mel_norms": torch.zeros(3),
        "xtts.gpt.gpt_inference.transformer.ln_f.weight": torch.zeros(3),
        "xtts.gpt.gpt.wte.weight": torch.zeros(3),
        "xtts.gpt.gpt.h.0.attn.bias": torch.zeros(3),
    }
    torch.save({"model": model, "config": {"model": "xtts"}, "step": 7}, tmp_path / "b.pth")
    assert_equal(read_state(tmp_path / "b.pth"))


def test_the_original_pickle_with_config_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XTTS-v2's model.pth holds config objects, some under modules they have since left."""
    from TTS.config.shared_configs import BaseDatasetConfig
    from TTS.tts.configs.xtts_config import XttsArgs, XttsAudioConfig, XttsConfig
    from TTS.tts.models import xtts  # noqa: F401  (the module the old names point to)

    monkeypatch.setattr(XttsArgs, "__module__", "TTS.tts.models.xtts")
    monkeypatch.setattr(XttsAudioConfig, "__module__", "TTS.tts.models.xtts")
    config = XttsConfig(datasets=[BaseDatasetConfig(dataset_name="a")])
    torch.save({"config": config, "model": STATE}, tmp_path / "model.pth")
    assert b"TTS.tts.models.xtts" in (tmp_path / "model.pth").read_bytes()

    assert_equal(read_state(tmp_path / "model.pth"))
    allowed = torch.serialization.get_safe_globals()
    assert not [entry for entry in allowed if "TTS" in str(entry)], "allowed beyond this file"


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "model.pth"
    torch.save({"model": STATE, "config": Evil(marker)}, path)
    with pytest.raises(ModelFileError, match=r"model\.pth is refused.*posix\.system") as caught:
        read_state(path)
    assert not marker.exists()
    assert "\n" not in caught.value.message
    torch.load(path, weights_only=False)  # the file does what it says, given the chance
    assert marker.exists()


def test_a_class_that_only_looks_like_coquis_is_refused(tmp_path: Path) -> None:
    """The list of stand-ins is of whole names: another class of the same module is not on it."""
    stream = io.BytesIO()
    torch.save(STATE, stream)
    fake = pickle.dumps(STATE["mel_stats"].tolist(), protocol=2).replace(
        b"]", b"cTTS.tts.models.xtts\nXtts\n0]", 1
    )
    with zipfile.ZipFile(stream) as whole, zipfile.ZipFile(tmp_path / "x.pth", "w") as changed:
        for info in whole.infolist():
            is_pickle = info.filename.endswith("data.pkl")
            changed.writestr(info, fake if is_pickle else whole.read(info))
    with pytest.raises(ModelFileError, match=r"x\.pth is refused.*TTS\.tts\.models\.xtts\.Xtts"):
        read_state(tmp_path / "x.pth")


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "model.pth").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(ModelFileError, match=r"model\.pth is no torch file"):
        read_state(tmp_path / "model.pth")
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save({"model": STATE}, path)
    else:
        save_file(STATE, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(ModelFileError, match=r"fetch") as caught:
        read_state(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_missing_files_and_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=rf"{name} is missing"):
        read_state(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(ModelFileError, match=name):
        read_state(tmp_path / name)


@pytest.mark.parametrize(
    "content", [[1, 2], {}, {"model": {}}, {"model": 3}, {"model": {"gpt.x": 3}}, {"epoch": 3}]
)
def test_torch_files_that_hold_no_model(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ModelFileError, match=r"model\.pth holds"):
        read_state(tmp_path / "model.pth")


def test_plain_values_come_through(tmp_path: Path) -> None:
    torch.save({"a": {"b": [1, "c", torch.ones(2)]}}, tmp_path / "speakers.pth")
    assert read_pickle(tmp_path / "speakers.pth")["a"]["b"][:2] == [1, "c"]


def test_float32_is_mapped_and_half_is_widened(tmp_path: Path) -> None:
    torch.save(
        {"a": torch.ones(3), "b": torch.ones(3).half(), "n": torch.tensor(1)}, tmp_path / "x"
    )
    (tmp_path / "x").rename(tmp_path / "x.pth")
    state = read_state(tmp_path / "x.pth")
    wide = to_float32(state)
    assert wide["a"].data_ptr() == state["a"].data_ptr()
    assert wide["b"].dtype == torch.float32
    assert wide["n"].dtype == torch.int64


def test_unfilled_modules_draw_no_random_numbers_and_take_tensors_uncopied() -> None:
    before = torch.get_rng_state()
    with unfilled():
        module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    assert torch.equal(torch.get_rng_state(), before)
    state = {name: torch.ones_like(value) for name, value in module.state_dict().items()}
    fill_module(module, state, Path("model.pth"))
    assert module[0].weight.data_ptr() == state["0.weight"].data_ptr()
    assert not module.training
    with pytest.raises(ModelFileError, match=r"model\.pth.*0\.bias is missing; 7\.x is unknown"):
        fill_module(
            module,
            {**{k: v for k, v in state.items() if k != "0.bias"}, "7.x": torch.ones(1)},
            Path("model.pth"),
        )
