"""What data must know of the model that will be trained on it: spelling, languages, limits.

Reads `config.json` and the vocabulary only; no weights, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.errors import ModelFileError
from app.files import sha256_of_file
from app.models.bundles import Bundle
from app.models.config import read_config
from app.text.tokenizer import FrontEnd, TextTokenizer

#: Rate of all audio that training reads (XttsAudioConfig, sample_rate and dvae_sample_rate), in Hz.
TRAINING_RATE = 22050
#: Places of the GPT's audio positions that no code can have: start, stop, and the three codes that
#: stock's `GPT.forward` adds to every length.
_OTHER_POSITIONS = 5


@dataclass(frozen=True)
class BaseModel:
    """The facts of one model that decide what can be learnt from.

    `stride` is samples at 22.05 kHz in a code; `max_text_tokens` counts no start and stop;
    `vocab_sha256` says which spelling token ids are in.
    """

    name: str
    vocab: Path
    front_end: FrontEnd
    languages: tuple[str, ...]
    max_text_tokens: int
    max_codes: int
    stride: int
    num_codes: int
    vocab_sha256: str

    @property
    def max_clip_s(self) -> float:
        """Longest clip whose codes the model has positions for, in seconds."""
        return self.max_codes * self.stride / TRAINING_RATE


def describe_base(bundle: Bundle) -> BaseModel:
    """Reads what data must know of a bundle.

    Raises:
        ModelFileError: its config or vocabulary does not fit, or is of an XTTS v1.
    """
    config = read_config(bundle.config, bundle.decoder)
    if not config.uses_perceiver:
        raise ModelFileError(
            f"{bundle.config} is of an XTTS v1 model; only XTTS v2 can be trained."
        )
    tokenizer = load_tokenizer(bundle.vocab, bundle.front_end)
    args = config.model_args
    return BaseModel(
        name=bundle.name,
        vocab=bundle.vocab,
        front_end=bundle.front_end,
        languages=tuple(code for code in bundle.languages if code in tokenizer.languages),
        # stock refuses a text of gpt_max_text_tokens, as the engine does
        max_text_tokens=int(args.get("gpt_max_text_tokens") or 402) - 1,
        max_codes=int(args.get("gpt_max_audio_tokens") or 605) - _OTHER_POSITIONS,
        stride=int(args.get("gpt_code_stride_len") or 1024),
        num_codes=int(args.get("gpt_num_audio_tokens") or 1026) - 2,
        vocab_sha256=sha256_of_file(bundle.vocab),
    )


@lru_cache(maxsize=2)
def load_tokenizer(vocab: Path, front_end: FrontEnd) -> TextTokenizer:
    """Returns the tokenizer of a vocabulary, kept for the process: a worker reads many clips.

    Raises:
        ModelFileError: the file is no vocabulary.
    """
    return TextTokenizer.from_file(vocab, front_end)
