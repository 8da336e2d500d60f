"""Reads the tensors of a model file under XTTS's own names, without ever running code in it.

Safetensors, or torch's zip files through `weights_only=True`; both are mapped, not copied. Knows
the dialects (coqui's releases, coqui's trainer, ours), and nothing of what the tensors do.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from app.errors import ModelFileError

State = dict[str, Tensor]

#: What coqui's trainer saves beside the model; stock drops these too
#: (`Xtts.get_compatible_checkpoint_state_dict`).
_TRAINER_ONLY = frozenset(
    {"torch_mel_spectrogram_style_encoder", "torch_mel_spectrogram_dvae", "dvae"}
)
#: Copies and masks that older coqui and transformers versions kept in the file.
_DUPLICATES = re.compile(r"gpt\.(gpt_inference\.|gpt\.wte\.|gpt\.h\.\d+\.attn\.(masked_)?bias$)")
#: Config objects inside coqui's released files, by the module each was pickled under. XTTS-v2's
#: `model.pth` is from before XttsArgs moved (coqui-tts, `_legacy_safe_globals`).
_COQUI_CONFIG_CLASSES = (
    "TTS.config.shared_configs.BaseAudioConfig",
    "TTS.config.shared_configs.BaseDatasetConfig",
    "TTS.config.shared_configs.BaseTrainingConfig",
    "TTS.tts.configs.shared_configs.BaseTTSConfig",
    "TTS.tts.configs.shared_configs.CharactersConfig",
    "TTS.tts.configs.xtts_config.XttsArgs",
    "TTS.tts.configs.xtts_config.XttsAudioConfig",
    "TTS.tts.configs.xtts_config.XttsConfig",
    "TTS.tts.layers.xtts.trainer.gpt_trainer.GPTArgs",
    "TTS.tts.layers.xtts.trainer.gpt_trainer.GPTTrainerConfig",
    "TTS.tts.models.xtts.XttsArgs",
    "TTS.tts.models.xtts.XttsAudioConfig",
)


#: What layers' constructors call, which use nothing of what these return.
_RANDOM_INITS = frozenset((nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_))


class _NoRandomInit(TorchFunctionMode):
    """Leaves out random initialisation: no time, no memory touched, no random numbers drawn.

    The meta device would do the same, but torch imports sympy for it, which takes 1.4 s.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _RANDOM_INITS:
            return None
        return func(*args, **(kwargs or {}))


class _DiscardedConfig:
    """Stands in for coqui's config classes while a file is read: takes any state, does nothing."""


def read_state(path: Path) -> State:
    """Reads the model's tensors, on the CPU and as stored, under stock XTTS's names.

    The tensors are mapped from the file: do not write to them, and do not overwrite the file in
    place while they live.

    Raises:
        ModelFileError: the file is missing, cut short, of another format, holds code, or holds no
            tensors of a model.
    """
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    tensors = content.get("model", content)
    if not isinstance(tensors, Mapping) or not tensors:
        raise ModelFileError(f"{path} holds no model; give a checkpoint or a weights file.")
    odd = [str(name) for name, value in tensors.items() if not isinstance(value, Tensor)]
    if odd:
        raise ModelFileError(
            f"{path} holds no plain weights: {odd[0]!r} is no tensor; give a checkpoint of XTTS."
        )
    return _to_stock_names(tensors)


def read_pickle(path: Path) -> dict[str, Any]:
    """Reads a torch file with `weights_only=True`: tensors and plain values, never code.

    Raises:
        ModelFileError: the file is missing, no zip made by torch.save, cut short, or holds
            anything else than tensors, plain values and coqui's config objects.
    """
    _check_zip_or_raise(path)
    stand_ins: list[Any] = [(_DiscardedConfig, name) for name in _COQUI_CONFIG_CLASSES]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"{path} is refused: it holds more than weights ({_first_reason(error)}). Such a file "
            "can run code; get it as safetensors, or from a source that saves weights alone."
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, IndexError, ValueError) as error:
        raise ModelFileError(
            f"{path} can't be read ({_first_line(error)}); it is damaged or cut short: "
            "fetch or copy it again."
        ) from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} holds a {type(content).__name__}, not a model.")
    return content


def select(state: State, prefix: str) -> State:
    """Returns the tensors below `prefix` (with its dot), under the rest of their names."""
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def to_float32(state: State) -> State:
    """Returns the state with half-precision floats widened; float32 tensors are not copied."""
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made inside have names and shapes, and no values until `fill_module`."""
    with _NoRandomInit():
        yield


def fill_module(module: nn.Module, state: State, path: Path) -> None:
    """Gives a module made under `unfilled` its tensors, without copying them.

    Raises:
        ModelFileError: a tensor is missing, too many or of another shape than the module's.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    check_shapes_or_raise(state, expected, path)
    module.load_state_dict(state, strict=True, assign=True)
    module.requires_grad_(False)
    module.eval()


def check_shapes_or_raise(
    state: State, expected: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """Compares names and shapes; the first few differences are named in the error.

    Raises:
        ModelFileError: a name is missing or unknown, or a shape differs.
    """
    faults = [f"{name} is missing" for name in expected if name not in state]
    faults += [f"{name} is unknown" for name in state if name not in expected]
    faults += [
        f"{name} is {list(state[name].shape)} where {list(shape)} belongs"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ModelFileError(
            f"{path} does not fit its config.json: {'; '.join(faults[:3])}{more}. "
            "Use the config.json that was saved with these weights."
        )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is no whole safetensors file ({_first_line(error)}); fetch or copy it again."
        ) from error


def _check_zip_or_raise(path: Path) -> None:
    """Torch's files are zips since 1.6; anything else would go to the unmapped legacy reader."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror}.") from error
    if start != b"PK\x03\x04":
        raise ModelFileError(
            f"{path} is no torch file (it starts with {start!r}, a zip was expected); "
            "fetch it again, or save it anew with torch 1.6 or later."
        )


def _to_stock_names(tensors: Mapping[Any, Tensor]) -> State:
    state: State = {}
    for raw, value in tensors.items():
        name = str(raw).removeprefix("xtts.")
        if name.split(".")[0] in _TRAINER_ONLY or _DUPLICATES.match(name):
            continue
        state[name] = value
    return state


def _missing(path: Path) -> ModelFileError:
    return ModelFileError(f"{path} is missing; copy or fetch the model again.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _first_reason(error: Exception) -> str:
    """Picks the name of what was refused out of torch's long advice."""
    asked_for = re.search(r"GLOBAL (\S+)", str(error))
    return f"it calls for {asked_for.group(1).rstrip('.')}" if asked_for else _first_line(error)
