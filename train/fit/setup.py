"""Everything a run is made of before its first step: clips, network, device, folders, settings."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

from app.engine.formats import has_bfloat16_units
from app.errors import ModelFileError, SettingsError
from app.files import sha256_of_file
from app.models.bundles import Bundle
from app.models.config import ModelConfig, read_config, read_json
from app.models.weights import State, read_state
from app.synthesis.placing import Placement
from train.data.base_model import load_tokenizer
from train.data.prepared import PreparedClips
from train.epochs.space import SpaceNeeded, check_space_or_raise, needed_for
from train.fit.batch import Layout
from train.fit.lora import add_adapters
from train.fit.memory import Pieces
from train.fit.network import PREFIX, FitGpt, load_network
from train.mels import NUM_MELS
from train.options import TrainingOptions

#: Width and learning rate of XTTS-v2's fine-tuning; coqui's recipe has half of the rate at fifteen
#: times the batch.
_XTTS_WIDTH, _XTTS_RATE = 1024, 1e-5
#: Adapters start from nothing and stand for few numbers: they need larger steps.
_LORA_FACTOR = 10.0
#: A CPU makes some 1e11 operations a second in the worst case; a piece should take seconds, for a
#: stop is heard between pieces.
_CPU_PIECE_OPERATIONS = 5e11
_OPERATIONS_PER_WEIGHT = 6
#: A CPU gains little from more at once: 8 layers of 512 took 2 % longer for a position in pieces
#: of 1056 than of 2112, in 600 MB less, and no longer in 512 than in 1024, in 150 MB less.
_CPU_PIECE_POSITIONS = 512
_WAIT_HOURS = 12


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    value: str
    reason: str


@dataclass(eq=False)
class FitSetup:
    """A run, ready to start.

    Attributes:
        base_state: all tensors of the starting model, mapped from its file.
        base_sha256: of that file.
        stats: [80], what mels are divided by.
        num_left_out: clips that MAX_TRAIN_SAMPLES leaves out.
    """

    options: TrainingOptions
    bundle: Bundle
    clips: PreparedClips
    num_left_out: int
    accelerator: Accelerator
    device: Choice
    precision: Choice
    rate: float
    rate_reason: str
    network: FitGpt
    base_state: State
    base_sha256: str
    stats: Tensor
    layout: Layout
    pieces: Pieces

    @property
    def checkpoints_dir(self) -> Path:
        """Where `checkpoint_epoch_X.pt` lie."""
        return self.options.train_output_dir / "checkpoints"

    @property
    def state_dir(self) -> Path:
        """Where the state for a resume lies."""
        return self.options.train_output_dir / "state"


def use_threads(num: int) -> None:
    """Computes with so many CPU threads; their number decides the last bits of every sum."""
    torch.set_num_threads(num)


def make_accelerator(
    placement: Placement, wanted: str, runs_dir: Path | None = None
) -> tuple[Accelerator, Choice]:
    """Returns what runs the training, and in which number format with the reason.

    Args:
        placement: device and number format that the probe trusts for speech.
        wanted: PRECISION.
        runs_dir: of TensorBoard's event files, where the accelerator is to write them.
    """
    choice = choose_precision(placement, wanted)
    accelerator = Accelerator(
        cpu=placement.device.type == "cpu",
        mixed_precision="bf16" if choice.value == "bfloat16" else "no",
        log_with="tensorboard" if runs_dir else None,
        project_dir=str(runs_dir) if runs_dir else None,
        # the first process may prepare clips for long while the others wait
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=_WAIT_HOURS))],
    )
    return accelerator, choice


def set_up(
    options: TrainingOptions,
    bundle: Bundle,
    clips: PreparedClips,
    num_left_out: int,
    placement: Placement,
    accelerator: Accelerator,
    precision: Choice,
) -> FitSetup:
    """Loads the starting model and decides what is left to decide.

    Raises:
        ModelFileError: the weights don't fit their config.
        SettingsError: the output folder can't be written to, or the disk has no room.
    """
    config = read_config(bundle.config, bundle.decoder)
    state = read_state(bundle.weights)
    network = load_network(state, config, bundle.weights)
    network.dropout = options.dropout
    if options.lora_rank:
        add_adapters(network, options.lora_rank, options.train_seed)
    network.to(accelerator.device)
    if accelerator.is_main_process:
        check_output_or_raise(options.train_output_dir)
        check_space_or_raise(options.train_output_dir, _space_needed(options, state, network))
    rate, rate_reason = _rate(options, network.sizes.width)
    return FitSetup(
        options=options,
        bundle=bundle,
        clips=clips,
        num_left_out=num_left_out,
        accelerator=accelerator,
        device=Choice(str(accelerator.device), placement.reason),
        precision=precision,
        rate=rate,
        rate_reason=rate_reason,
        network=network,
        # mapped anew: what was read of it to make the network need not stay in memory
        base_state=read_state(bundle.weights),
        base_sha256=sha256_of_file(bundle.weights),
        stats=mel_stats_of(state, bundle),
        layout=layout_of(bundle, config, network, coqui_masks=options.coqui_compatible_mask),
        pieces=_pieces(options, network, accelerator.device),
    )


def check_output_or_raise(folder: Path) -> None:
    """Looks whether a run can leave anything in its output folder, before it takes hours.

    Raises:
        SettingsError: it can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".room-") as probe:
            probe.write(b"room")
            probe.flush()
    except OSError as error:
        raise SettingsError(
            f"TRAIN_OUTPUT_DIR: {folder} can't be written to ({error.strerror}): change its "
            "rights, or name another folder. Nothing was started.",
            param="TRAIN_OUTPUT_DIR",
        ) from error


def _space_needed(options: TrainingOptions, state: State, network: FitGpt) -> SpaceNeeded:
    """Returns what a run leaves on the disk: trained weights are float32, others as they were."""
    checkpoint = sum(
        value.numel() * (4 if name.startswith(PREFIX) else value.element_size())
        for name, value in state.items()
    )
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad) * 4
    return needed_for(
        checkpoint,
        3 * trained,  # weights and the two running means of AdamW, in the largest case
        keep=options.keep_checkpoints,
        num_states=3,
        num_epochs=options.num_epochs,
    )


def choose_precision(placement: Placement, wanted: str) -> Choice:
    """Returns what products are computed in; see `make_accelerator`."""
    name = str(placement.dtype).removeprefix("torch.")
    if placement.device.type == "cpu" and wanted in ("auto", "int8") and has_bfloat16_units():
        # half the time or less for every width from 256 to 1024 (docs/training.md)
        reason = "this processor multiplies bfloat16 itself; weights and sums stay float32"
        return Choice("bfloat16", reason)
    reason = next((r.reason for r in placement.routes if r.name == "precision"), "")
    if name == "float16":
        return Choice("float32", "float16 overflows in training, and bfloat16 is not trusted here")
    return Choice(name, reason)


def _rate(options: TrainingOptions, width: int) -> tuple[float, str]:
    if options.learning_rate is not None:
        return options.learning_rate, "LEARNING_RATE"
    rate = _XTTS_RATE * _XTTS_WIDTH / width
    reason = f"{_XTTS_RATE:g} for a model {_XTTS_WIDTH} wide, this one is {width}"
    if options.lora_rank:
        return rate * _LORA_FACTOR, f"{reason}; {_LORA_FACTOR:g} times that for adapters"
    return rate, reason


def _pieces(options: TrainingOptions, network: FitGpt, device: torch.device) -> Pieces:
    if device.type != "cpu":
        return Pieces(options.batch_tokens, options.grad_checkpointing)
    weights = sum(parameter.numel() for parameter in network.parameters())
    affordable = int(_CPU_PIECE_OPERATIONS / (_OPERATIONS_PER_WEIGHT * weights))
    most = min(options.batch_tokens, affordable, _CPU_PIECE_POSITIONS)
    return Pieces(most, options.grad_checkpointing)


def mel_stats_of(state: State, bundle: Bundle) -> Tensor:
    """Returns [80], what mels are divided by.

    Raises:
        ModelFileError: the model has none.
    """
    stats = state.get("mel_stats")
    if stats is None or tuple(stats.shape) != (NUM_MELS,):
        raise ModelFileError(
            f"{bundle.weights} has no mel_stats of {NUM_MELS} numbers, which every XTTS-v2 has; "
            "fetch it again."
        )
    return stats.float().clone()


def layout_of(
    bundle: Bundle, config: ModelConfig, network: FitGpt, *, coqui_masks: bool = False
) -> Layout:
    """Returns how the rows of a model are laid out; `coqui_masks` as in `Layout`.

    Raises:
        ModelFileError: the vocabulary is none of an XTTS.
    """
    args = config.model_args
    sizes = network.sizes
    start, stop = _special_tokens(bundle)
    return Layout(
        start_text=start,
        stop_text=stop,
        start_audio=int(args.get("gpt_start_audio_token") or sizes.num_audio_tokens - 2),
        stop_audio=int(args.get("gpt_stop_audio_token") or sizes.num_audio_tokens - 1),
        num_text_tokens=sizes.num_text_tokens,
        text_positions=sizes.text_positions,
        stride=int(args.get("gpt_code_stride_len") or 1024),
        coqui_masks=coqui_masks,
    )


def _special_tokens(bundle: Bundle) -> tuple[int, int]:
    """Returns the ids of [START] and [STOP], by the vocabulary as the service takes them."""
    load_tokenizer(bundle.vocab, bundle.front_end)  # refuses what is no vocabulary
    data = read_json(bundle.vocab)
    ids = dict((data.get("model") or {}).get("vocab") or {})
    ids.update({token["content"]: token["id"] for token in data.get("added_tokens") or []})
    if "[START]" not in ids or "[STOP]" not in ids:
        raise ModelFileError(f"{bundle.vocab} has no [START] or [STOP]; fetch the model again.")
    return int(ids["[START]"]), int(ids["[STOP]"])
