"""The training forward against coqui's own `GPT.forward` on the same weights and clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fit_runs import prepared_clips
from toy import decoder_sizes, load_stock, stock_model, toy_folder

from app.models.bundles import Bundle, read_folder
from app.models.config import read_config
from app.models.weights import read_state
from train.data.prepared import PreparedClips
from train.fit.batch import Layout, Row, collate
from train.fit.network import FitGpt, load_network
from train.mels import HOP

STATS = torch.linspace(0.5, 2.0, 80)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_folder(toy_folder(), "toy")


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> FitGpt:
    config = read_config(bundle.config, bundle.decoder)
    return load_network(read_state(bundle.weights), config, bundle.weights).eval()


@pytest.fixture(scope="module")
def stock(bundle: Bundle) -> Any:
    return load_stock(bundle.folder).gpt.eval()


@pytest.fixture(scope="module")
def clips(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> PreparedClips:
    return prepared_clips(tmp_path_factory.mktemp("clips"), bundle)


def layout_of(network: FitGpt, *, coqui_masks: bool) -> Layout:
    sizes = network.sizes
    return Layout(3, 0, 1024, 1025, sizes.num_text_tokens, sizes.text_positions, 1024, coqui_masks)


def rows_of(clips: PreparedClips, count: int, num_frames: int = 30) -> list[Row]:
    chosen = clips.side("train")[:count]
    return [Row(i, clip, 3 + i, num_frames, i == count - 1) for i, clip in enumerate(chosen)]


def stock_losses(
    stock: Any, rows: Sequence[Row], clips: PreparedClips, *, masked: bool
) -> tuple[float, float]:
    """Returns stock's (text, mel) losses; without `masked`, as its evaluation has them."""
    texts = [torch.tensor(row.clip.token_ids) for row in rows]
    codes = [torch.from_numpy(clips.codes(row.clip)) for row in rows]
    mels = np.stack([clips.style_mel(row.clip, row.start, row.num_frames) for row in rows])
    places = [[row.start * HOP, (row.start + row.num_frames) * HOP] for row in rows]
    # stock is asked as in training, but without its dropout
    with torch.no_grad():
        text, mel, _ = stock(
            torch.nn.utils.rnn.pad_sequence(texts, batch_first=True),
            torch.tensor([len(text) for text in texts]),
            torch.nn.utils.rnn.pad_sequence(codes, batch_first=True),
            torch.tensor([row.clip.num_samples for row in rows]),
            cond_mels=(torch.from_numpy(mels) / STATS[:, None])[:, None],
            cond_idxs=torch.tensor(places) if masked else None,
        )
    return float(text), float(mel)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_losses_with_coquis_masks_equal_coquis(
    network: FitGpt, stock: Any, clips: PreparedClips, count: int
) -> None:
    rows = rows_of(clips, count, num_frames=9)
    layout = layout_of(network, coqui_masks=True)
    batch = collate(rows, clips, STATS, layout)
    with torch.no_grad():
        losses = network(batch)
    text, mel = stock_losses(stock, rows, clips, masked=True)
    assert float(losses.text_sum) / len(batch.text_at) == pytest.approx(text, rel=1e-5)
    assert float(losses.mel_sum) / len(batch.mel_at) == pytest.approx(mel, rel=1e-5)
    counts = [row.num_targets(layout) for row in rows]
    assert (sum(c[0] for c in counts), sum(c[1] for c in counts)) == (
        len(batch.text_at),
        len(batch.mel_at),
    )
    # the sums by row are those of the whole
    torch.testing.assert_close(losses.rows.sum(0), torch.stack((losses.text_sum, losses.mel_sum)))


@pytest.mark.parametrize("count", [1, 4])
def test_losses_without_masks_equal_coquis_evaluation(
    network: FitGpt, stock: Any, clips: PreparedClips, count: int
) -> None:
    rows = [Row(r.index, r.clip, r.start, r.num_frames) for r in rows_of(clips, count)]
    batch = collate(rows, clips, STATS, layout_of(network, coqui_masks=True))
    with torch.no_grad():
        losses = network(batch)
    text, mel = stock_losses(stock, rows, clips, masked=False)
    assert float(losses.text_sum) / len(batch.text_at) == pytest.approx(text, rel=1e-5)
    assert float(losses.mel_sum) / len(batch.mel_at) == pytest.approx(mel, rel=1e-5)


def test_by_default_a_clip_is_learnt_as_stock_speaks_it(
    network: FitGpt, stock: Any, clips: PreparedClips
) -> None:
    """Stock's latents as it makes them while speaking, and the codes outside the stretch."""
    layout = layout_of(network, coqui_masks=False)
    rows = rows_of(clips, 3)
    batch = collate(rows, clips, STATS, layout)
    with torch.no_grad():
        losses = network(batch)
    for row, (_, mel_sum) in zip(rows, losses.rows, strict=True):
        codes = torch.from_numpy(clips.codes(row.clip))
        mel = torch.from_numpy(clips.style_mel(row.clip, row.start, row.num_frames))
        wanted = torch.cat((codes, torch.tensor([1025])))
        with torch.no_grad():
            # one code more, for stock leaves out the latents behind the last one
            latents = stock(
                torch.tensor([row.clip.token_ids]),
                torch.tensor([len(row.clip.token_ids)]),
                wanted[None],
                torch.tensor([len(wanted) * layout.stride]),
                cond_mels=(mel / STATS[:, None])[None, None],
                return_latent=True,
            )
            logits = stock.mel_head(latents[0])
        first, end = row.masked(layout)
        keep = torch.ones(len(wanted), dtype=torch.bool)
        keep[first:end] = False
        assert 0 < end - first < len(codes)
        expected = F.cross_entropy(logits[keep], wanted[keep], reduction="sum")
        torch.testing.assert_close(mel_sum, expected, rtol=1e-5, atol=0)


def test_company_changes_nothing_of_a_row(network: FitGpt, clips: PreparedClips) -> None:
    layout = layout_of(network, coqui_masks=False)
    rows = rows_of(clips, 5)
    with torch.no_grad():
        together = network(collate(rows, clips, STATS, layout)).rows
        alone = [network(collate([row], clips, STATS, layout)).rows[0] for row in rows]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-5, atol=1e-5)


def test_checkpointing_and_gradients(network: FitGpt, stock: Any, clips: PreparedClips) -> None:
    """Gradients equal those of stock's forward, with and without computing layers twice."""
    layout = layout_of(network, coqui_masks=True)
    rows = [Row(r.index, r.clip, r.start, r.num_frames) for r in rows_of(clips, 2)]
    batch = collate(rows, clips, STATS, layout)
    found = []
    for checkpointing in (False, True):
        network.checkpointing = checkpointing
        network.train()
        network.zero_grad()
        losses = network(batch)
        (losses.mel_sum / len(batch.mel_at) + losses.text_sum / len(batch.text_at)).backward()
        found.append({n: p.grad.clone() for n, p in network.named_parameters()})
    network.checkpointing = False
    network.eval().zero_grad()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name])
    gradients = stock_gradients(stock, rows, clips)
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, gradients[name], rtol=2e-3, atol=2e-5)


def stock_gradients(
    stock: Any, rows: Sequence[Row], clips: PreparedClips
) -> dict[str, torch.Tensor]:
    with torch.enable_grad():
        stock.requires_grad_(True)
        stock.zero_grad()
        text = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row.clip.token_ids) for row in rows], batch_first=True
        )
        codes = torch.nn.utils.rnn.pad_sequence(
            [torch.from_numpy(clips.codes(row.clip)) for row in rows], batch_first=True
        )
        mels = np.stack([clips.style_mel(row.clip, row.start, row.num_frames) for row in rows])
        losses = stock(
            text,
            torch.tensor([len(row.clip.token_ids) for row in rows]),
            codes,
            torch.tensor([row.clip.num_samples for row in rows]),
            cond_mels=(torch.from_numpy(mels) / STATS[:, None])[:, None],
        )
        (losses[0] + losses[1]).backward()
    return {n: p.grad for n, p in stock.named_parameters() if p.grad is not None}


def test_a_network_holds_stocks_weights_under_stocks_names(bundle: Bundle, network: FitGpt) -> None:
    import json

    from toy import stock_config

    args = json.loads(bundle.config.read_text())["model_args"]
    fresh = stock_model(stock_config(args), decoder_sizes(bundle.folder))
    assert set(network.state_dict()) == set(fresh.gpt.state_dict())
