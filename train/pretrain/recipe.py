"""What a recipe file says: sizes, data mix, steps, rates, seeds.

A recipe is a folder with a `recipe.toml`. Knows the file's form and nothing of how stages work.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - tomllib came with 3.11
    import tomli as tomllib


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class FolderSpeaker(_Part):
    """A speaker whose recordings lie in a folder in LJSpeech form."""

    kind: Literal["folder"]
    name: str
    description: str
    """One line about the voice, for lists."""
    licence: str
    source: str
    """Where the recordings come from."""
    path: str
    """Folder with `metadata.csv` and `wavs/`, relative to the data folder."""
    speeds: list[float] = []
    """Speeds at which each recording is played once more to the GPT, pitch moving along: more
    speech where there is little. Never of held-out clips, and for no other stage."""
    prompt_pattern: str = ""
    """Regular expression whose first group is the prompt of a clip id; empty: the text is."""
    weight: float = 1.0
    """How often a clip is drawn, against the other speakers' clips."""


class FliteSpeaker(_Part):
    """A synthetic speaker: the recipe makes its speech with flite (Debian package `flite`)."""

    kind: Literal["flite"]
    name: str
    description: str
    licence: str
    source: str = "synthetic speech of flite 2.2 (http://cmuflite.org)"
    voice: str
    texts: int
    """Sentences it speaks beside the prompts of the recorded speakers."""
    phrases: int
    """Phrases of one to four dictionary words, for variety of words."""
    weight: float = 1.0


Speaker = Annotated[FolderSpeaker | FliteSpeaker, Field(discriminator="kind")]


class DataPart(_Part):
    """Which speech, and which of it is held back."""

    speakers: list[Speaker]
    language: str = "en"
    held_out: int = 100
    """Prompts of the recorded speakers that no stage trains on."""
    min_chars: int = 12
    max_chars: int = 75
    max_s: float = 7.0
    text_globs: list[str] = ["/usr/share/games/fortunes/*.u8"]
    word_list: str = "/usr/share/dict/words"


class CodesPart(_Part):
    """The DVAE (`TTS.tts.layers.xtts.dvae.DiscreteVAE`) that turns mels into codes."""

    num_codes: int = 1024
    stride: int = 512
    hidden: int = 192
    codebook_dim: int = 64
    num_resnet_blocks: int = 3
    steps: int = 1500
    warm_steps: int = 300
    """Steps as a plain autoencoder, before the codebook is laid by k-means."""
    steps_from_bundle: int = 0
    """Steps by which a bundle's DVAE is trained on where the run starts from a bundle; its GPT
    then learns the new codes. 0: its codes stay."""
    batch: int = 48
    crop_frames: int = 64
    rate: float = 6e-4
    phone_weight: float = 0.05
    """Weight of naming the phoneme from the codes beside the mel loss; 0: off."""
    mel_floor: float = -8.0
    """Log-mel below which differences are not heard and not learned."""


class GptPart(_Part):
    """The GPT (`TTS.tts.layers.xtts.gpt.GPT`)."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    max_audio_tokens: int = 400
    max_text_tokens: int = 250
    steps: int = 3000
    rate: float = 1e-3
    rate_from_bundle: float = 7e-4
    """The rate where training goes on from a bundle, whose weights need no large steps."""
    warmup: int = 150
    flat: float = 0.5
    """Share of the steps before the rate falls."""
    tokens: int = 2000
    """Tokens in one step: text, codes and padding."""
    code_noise: float = 0.15
    """Share of the input codes that are replaced at random."""
    dropout: float = 0.0
    """Share of each block's output that is left out while training."""
    text_dropout: float = 0.0
    """Share of the rows that are trained without their text, for guided sampling."""
    mel_weight: float = 0.5
    """Weight of drawing the mel of each code from its latent; the decoder lives on it."""
    guide_weight: float = 0.3
    guide_steps: int = 600
    guide_width: float = 1.5
    """Symbols that attention may be off the alignment at no cost."""
    average: float = 0.998
    """Decay of the running average of the weights that the bundle takes."""


class DecoderPart(_Part):
    """The HiFi-GAN: sizes, then training on mel blocks and on GPT latents."""

    initial_channels: int = 256
    upsample_rates: list[int] = [4, 4, 4, 4]
    upsample_kernels: list[int] = [8, 8, 8, 8]
    resblock: Literal["1", "2"] = "2"
    kernels: list[int] = [3, 5, 7]
    dilations: list[list[int]] = [[1, 2], [2, 6], [3, 12]]
    mel_steps: int = 4000
    """Steps on the true mel blocks, before there is a GPT."""
    latent_steps: int = 1600
    """Steps on latents of the GPT, half of them with noised codes."""
    adversary_steps: int = 0
    """The last so many of the `latent_steps` have an adversary beside the spectral distances."""
    adversary_weight: float = 0.2
    adversary_rate: float = 4e-4
    adversary_channels: int = 16
    clips_per_speaker: int = 1200
    """Most clips of a speaker whose latents are kept."""
    batch: int = 16
    segment_codes: int = 17
    rate: float = 8e-4


class ScorePart(_Part):
    """How the bundle is judged and sampled."""

    sentences: int = 100
    strangers: list[str] = []
    """Folders of other people's recordings, relative to the data folder, that a voice must not be
    taken for."""
    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 0.9
    guidance_scale: float = 1.0
    """Above 1 the text counts for more; wants `[gpt] text_dropout`."""


class Budgets(_Part):
    """Most minutes a stage may train in one call; it resumes in the next. 0: no limit."""

    codes: float = 0
    gpt: float = 0
    decoder_mel: float = 0
    decoder: float = 0


class Gates(_Part):
    """A stage that fails its gate stops the recipe with the number that was too high or low."""

    roundtrip_wer: float = 0.45
    text_gap: float = 1.5
    ungated: bool = False
    """True only reports; for toy recipes and first cuts."""


class Recipe(_Part):
    """A whole recipe file."""

    name: str
    version: str
    licence: str = "CC0-1.0"
    origin: str = ""
    default_voice: str
    seed: int = 1
    notes: list[str] = []
    """Sentences for whoever uses the bundle."""
    data: DataPart
    codes: CodesPart = CodesPart()
    gpt: GptPart = GptPart()
    decoder: DecoderPart = DecoderPart()
    score: ScorePart = ScorePart()
    budget_min: Budgets = Budgets()
    gates: Gates = Gates()

    @property
    def frames_per_code(self) -> int:
        """Mel frames (hop 256) that one code stands for."""
        return self.codes.stride // 256


def read_recipe(folder: Path) -> Recipe:
    """Reads `recipe.toml` in `folder`.

    Raises:
        SettingsError: no such file, no TOML, or keys and values that do not fit, all named.
    """
    path = folder / "recipe.toml"
    if not path.is_file():
        raise SettingsError(f"{path} does not exist; name a folder that holds a recipe.toml.")
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return Recipe(**content)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is no TOML: {error}.") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(f"{path} does not fit: {faults}.") from error
