"""The hot path of the decoder for CUDA devices where there is no card: no word to the host, and
no more launches than there were.

On torch's `meta` device tensors have shapes and no numbers: whoever asks one for a number is told
off, as is who mixes devices. Shapes are XTTS-v2's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from graph_card import XTTS, random_weights
from graph_recorders import Idle
from meta_launches import Launches

from app.engine import run_graphs
from app.engine.decoder import StepOutput
from app.engine.gpt_weights import GptWeights
from app.engine.graph_decoder import GraphDecoder
from app.engine.static_prefill import lay_out_prefix, run_prefill
from app.engine.static_step import run_step

META = torch.device("meta")
#: Operations of a layer: normalise, project, attend, project, add, normalise, up, gelu, down and
#: add are 10. Beside them a step writes keys and values; a prefill blanks padding, writes them,
#: zeroes what is behind, and lays out what was attended to, which kernels of a card do themselves.
STEP_OPS, PREFILL_OPS = 11, 14
#: Operations of a step or a prefill that are not a layer's: embedding, mask, read-out.
OTHER_OPS = 12


def meta_weights(num_layers: int = XTTS.num_layers) -> GptWeights:
    return random_weights(replace(XTTS, num_layers=num_layers), torch.bfloat16, "meta")


def kept(weights: GptWeights, num_places: int, num_positions: int) -> list[torch.Tensor]:
    sizes = weights.sizes
    shape = (2, num_places, sizes.num_heads, num_positions, sizes.head_dim)
    return [torch.empty(shape, dtype=weights.dtype, device=META) for _ in weights.layers]


@torch.inference_mode()
def count(run: Callable[[], StepOutput]) -> Launches:
    with Launches() as launches:
        output = run()
    assert output.latents.device == output.logits.device == META
    assert (launches.num_to_host, launches.num_to_device) == (0, 0)
    return launches


def step_launches(num_layers: int, num_rows: int = 8) -> Launches:
    weights = meta_weights(num_layers)
    inputs = torch.empty(3, num_rows, dtype=torch.int64, device=META)
    return count(lambda: run_step(weights, kept(weights, num_rows, 512), inputs, 384))


def prefill_launches(num_layers: int, num_padded: int = 96) -> Launches:
    weights = meta_weights(num_layers)
    inputs = lay_out_prefix(XTTS, range(50), 32, num_padded, 3).to(META)
    voice = torch.empty(32, XTTS.model_dim, dtype=torch.bfloat16, device=META)
    return count(lambda: run_prefill(weights, kept(weights, 8, 512), inputs, voice))


@pytest.mark.parametrize(
    ("launches", "of_a_layer"), [(step_launches, STEP_OPS), (prefill_launches, PREFILL_OPS)]
)
def test_a_run_launches_no_more_than_it_did(
    launches: Callable[[int], Launches], of_a_layer: int
) -> None:
    one, all_layers = launches(1), launches(XTTS.num_layers)
    added = all_layers.num_operations - one.num_operations
    assert added <= of_a_layer * (XTTS.num_layers - 1), all_layers.operations
    assert one.num_operations <= of_a_layer + OTHER_OPS, one.operations
    assert all_layers.operations["scaled_dot_product_attention"] == XTTS.num_layers


def test_its_launches_do_not_depend_on_its_shape() -> None:
    assert step_launches(3, 1).num_operations == step_launches(3, 64).num_operations
    assert prefill_launches(3, 64).num_operations == prefill_launches(3, 404).num_operations


def go_on(decoder: GraphDecoder, num_rows: int) -> tuple[list[Launches], list[Launches]]:
    """Lets rows enter one a step; returns what prefills launched, and what steps did."""
    rows, prefills, steps = [], [], []
    voice = torch.zeros(1, 32, XTTS.model_dim)
    for index in range(2 * num_rows):
        if index < num_rows:
            with Launches() as launches:
                row, output = decoder.prefill(range(10 + 20 * index), voice)
            rows.append(row)
            prefills.append(launches)
            assert output.logits.shape == (1, XTTS.num_audio_tokens)
        with Launches() as launches:
            output = decoder.step(rows[::-1], [7] * len(rows))
        steps.append(launches)
        assert output.logits.shape == (len(rows), XTTS.num_audio_tokens)
        assert (output.logits.dtype, output.logits.device.type) == (torch.float32, "cpu")
        assert output.latents.device == META
    return prefills, steps


def test_all_that_the_host_reads_of_a_run_are_its_logits() -> None:
    prefills, steps = go_on(GraphDecoder(meta_weights(2), 4), 3)
    assert [launches.num_to_host for launches in prefills + steps] == [1] * 9
    assert max(launches.num_to_device for launches in prefills) <= 2, "numbers and voice"
    assert max(launches.num_to_device for launches in steps) <= 2, "numbers and order"


def test_a_replayed_run_launches_little_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in proportion to the layers. The replay itself does nothing here."""
    monkeypatch.setattr(run_graphs.RunGraphs, "distrusted", {})
    monkeypatch.setattr(run_graphs, "_distance", lambda ours, true: 0.0)  # there are no numbers
    recorder = Idle()
    decoder = GraphDecoder(meta_weights(2), 4, recorder=recorder)
    go_on(decoder, 3)  # its room grows meanwhile
    go_on(decoder, 3)
    num_recorded = recorder.num_recorded
    assert decoder.num_graphs == 5, "prefills padded to two lengths, steps of 1, 2 and 4 rows"
    prefills, steps = go_on(decoder, 3)
    assert recorder.num_recorded == num_recorded
    for launches in prefills + steps:
        assert launches.num_operations <= 2, launches.operations
        assert launches.num_to_host == 1


def ask_for_a_number() -> None:
    int(torch.empty(3, device=META).sum())


def index_from_the_host() -> None:
    torch.empty(3, device=META)[torch.tensor([1])]


def mix_devices() -> None:
    torch.empty(3, device=META) + torch.ones(3)


@pytest.mark.parametrize("fault", [ask_for_a_number, index_from_the_host, mix_devices])
def test_it_would_tell(fault: Callable[[], None]) -> None:
    with torch.inference_mode(), Launches(), pytest.raises((RuntimeError, AssertionError)):
        fault()
