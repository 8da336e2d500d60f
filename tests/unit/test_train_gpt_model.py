"""The packed training forward against coqui's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.pretrain.corpus import Clip
from train.pretrain.gpt import code_loss
from train.pretrain.gpt_batch import Row, make_row, without_text
from train.pretrain.gpt_model import PackedBatch, PackedGpt, build_gpt
from train.pretrain.recipe import CodesPart, GptPart

TEXT_TOKENS, CODES = 20, 32
PART = GptPart(width=64, layers=4, heads=4, max_audio_tokens=60, max_text_tokens=30)
FRAMES = 2


@pytest.fixture(scope="module")
def module() -> PackedGpt:
    torch.manual_seed(0)
    gpt = build_gpt(PART, CodesPart(num_codes=CODES), TEXT_TOKENS)
    return PackedGpt(gpt, FRAMES).eval()


def row(text: list[int], num_codes: int, seed: int) -> Row:
    rng = np.random.default_rng(seed)
    codes = rng.integers(CODES, size=num_codes)
    return Row(
        clip=Clip("", "", "", "", False, 0, 0, 0, num_codes * FRAMES),
        speaker=0,
        text=np.array([3, *text, 0]),
        codes=codes,
        aligned=np.full(num_codes, -1.0, dtype=np.float32),
    )


def pack(rows: list[Row]) -> PackedBatch:
    """Packs by the layout's own words, without the corpus that `RowSource` needs."""
    size = (len(rows), max(r.length for r in rows))
    tokens, positions = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.long)
    targets = torch.full(size, -100)
    for i, r in enumerate(rows):
        n, m = len(r.text), len(r.codes)
        tokens[i, :n] = torch.from_numpy(r.text)
        tokens[i, n] = TEXT_TOKENS + CODES
        tokens[i, n + 1 : n + 1 + m] = TEXT_TOKENS + torch.from_numpy(r.codes)
        positions[i, :n] = torch.arange(n)
        positions[i, n : n + m + 1] = PART.max_text_tokens + 2 + torch.arange(m + 1)
        targets[i, n : n + m] = torch.from_numpy(r.codes)
        targets[i, n + m] = CODES + 1
    return PackedBatch(
        tokens=tokens,
        positions=positions,
        speakers=torch.zeros(len(rows), dtype=torch.long),
        targets=targets,
        mels=torch.zeros(0),
        has_mel=torch.zeros(size, dtype=torch.bool),
        aligned=torch.full(size, -1.0),
        text_lengths=torch.tensor([len(r.text) for r in rows]),
    )


@torch.no_grad()
def test_latents_equal_those_of_stock_inference(module: PackedGpt) -> None:
    prompt = module.prompt(torch.randn(1, 80, 100))
    rows = [row([4, 7, 9, 5], 11, 1), row([4, 8], 17, 2), row([4, 6, 6, 12, 13, 14], 3, 3)]
    latents, _ = module(pack(rows), prompt)
    for i, r in enumerate(rows):
        text = torch.from_numpy(r.text[1:-1])[None]
        codes = torch.from_numpy(r.codes)[None]
        stock = module.gpt(
            text,
            torch.tensor([text.shape[1]]),
            torch.cat((codes, torch.tensor([[CODES + 1]])), 1),
            torch.tensor([(codes.shape[1] + 1) * module.gpt.code_stride_len]),
            cond_latents=prompt,
            return_attentions=False,
            return_latent=True,
        )
        start = len(r.text)
        packed = latents[i : i + 1, start : start + len(r.codes) + 1]
        torch.testing.assert_close(packed, stock, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_and_company_change_nothing(module: PackedGpt) -> None:
    prompt = module.prompt(torch.randn(1, 80, 100))
    short, long = row([4, 7, 9, 5], 11, 1), row([4, 8, 8, 8, 8, 8], 30, 2)
    alone, _ = module(pack([short]), prompt)
    together, _ = module(pack([short, long]), prompt)
    kept = together[:1, : short.length]
    torch.testing.assert_close(alone, kept, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_mean_over_codes_and_stop(module: PackedGpt) -> None:
    batch = pack([row([4, 5], 6, 1)])
    latents, _ = module(batch, module.prompt(torch.randn(1, 80, 100)))
    logits = module.gpt.mel_head(latents)[0, 4:11]
    wanted = torch.nn.functional.cross_entropy(logits, batch.targets[0, 4:11])
    torch.testing.assert_close(code_loss(module, batch, latents), wanted)


def test_guidance_is_low_only_where_attention_is_allowed_to_be(module: PackedGpt) -> None:
    batch = pack([row([4, 5, 6, 7, 8, 9], 12, 1)])
    prompt = module.prompt(torch.randn(1, 80, 100))
    aligned = batch.aligned.clone()
    aligned[0, 8:20] = 3.0
    batch = PackedBatch(**{**batch.__dict__, "aligned": aligned})
    losses = [float(module(batch, prompt, width)[1]) for width in (0.5, 2.0, 50.0)]
    assert losses[0] > losses[1] > losses[2] > 0
    assert float(module(batch, prompt)[1]) == 0.0


@torch.no_grad()
def test_a_row_without_text_is_what_guided_speech_shows_the_model(module: PackedGpt) -> None:
    """Its latents are those of stock's forward with no text token between start and stop."""
    prompt = module.prompt(torch.randn(1, 80, 100))
    told = row([4, 7, 9, 5], 11, 1)
    mute = without_text(told)
    assert mute.text.tolist() == [told.text[0], told.text[-1]]
    np.testing.assert_array_equal(mute.codes, told.codes)
    assert (mute.aligned == -1).all()
    latents, _ = module(pack([mute]), prompt)
    stock = module.gpt(
        torch.zeros(1, 0, dtype=torch.long),
        torch.tensor([0]),
        torch.cat((torch.from_numpy(told.codes), torch.tensor([CODES + 1])))[None],
        torch.tensor([12 * module.gpt.code_stride_len]),
        cond_latents=prompt,
        return_attentions=False,
        return_latent=True,
    )
    torch.testing.assert_close(latents[:, 2:14], stock, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_dropout_falls_on_training_alone(module: PackedGpt) -> None:
    batch, prompt = pack([row([4, 5, 6], 12, 1)]), module.prompt(torch.randn(1, 80, 100))
    dropping = PackedGpt(module.gpt, FRAMES, dropout=0.5)
    kept, _ = module(batch, prompt)
    torch.testing.assert_close(dropping.eval()(batch, prompt)[0], kept)
    dropping.train()
    assert not torch.allclose(dropping(batch, prompt)[0], kept, atol=1e-2)
    module.eval()


def test_rows_know_the_symbol_spoken_at_each_code() -> None:
    clip = Clip("a", "s", "", "abc", False, 0, 0, 0, 8, times=(0.1, 0.3, 0.5))
    found = make_row(clip, 0, np.zeros(4, dtype=np.int16), [4, 10, 11, 12], stride_s=0.2)
    # Codes are centred at 0.1, 0.3, 0.5 and 0.7 s; symbols stand after START and the language.
    np.testing.assert_allclose(found.aligned, [2, 3, 4, 4])
    unknown = make_row(clip, 0, np.zeros(4, dtype=np.int16), [4, 10], stride_s=0.2)
    assert (unknown.aligned == -1).all()
