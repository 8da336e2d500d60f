"""What can be wrong with a clip, in words, and what to do about it. Measures nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Rule(NamedTuple):
    """A kind of fault: its name for people, and the remedy; `stops` keeps the clip out."""

    title: str
    remedy: str
    stops: bool = True


#: The kinds, by the word that reports carry, in the order of reports.
RULES = {
    "bad_row": Rule("line that can't be read", "mend the line or remove it"),
    "missing": Rule("no such file", "put the file there, or correct its name in the table"),
    "unreadable": Rule("audio that can't be read", "export it again as WAV or FLAC"),
    "sample_rate": Rule("sample rate out of range", "record or export it at 22.05 kHz or more"),
    "non_finite": Rule("values that are no numbers", "export it again as 16-bit WAV or FLAC"),
    "too_short": Rule("too short", "join it with its neighbour, or leave it out"),
    "too_long": Rule("too long", "cut it at a pause into clips with their own texts"),
    "silent": Rule("silent", "record it again nearer to the microphone"),
    "clipped": Rule("overdriven", "record it again at a lower level; it can't be mended"),
    "noise_tail": Rule(
        "noise after the speech",
        "cut it where the last word ends; a model learns to add such tails",
    ),
    "long_edges": Rule("long silence at an end", "cut it to about 0.2 s on both sides"),
    "empty_text": Rule("no text", "write down what is said"),
    "text_too_long": Rule("text too long", "cut clip and text at a pause"),
    "unknown_characters": Rule(
        "letters that the model can't spell", "write them in letters of the language"
    ),
    "wrong_language": Rule(
        "text in another language", "leave it out, or give the clip its own language"
    ),
    "implausible_rate": Rule(
        "text and audio don't fit", "listen: words are missing in the text or in the audio"
    ),
    "duplicate_audio": Rule("the same audio again", "keep one of them, with the right text"),
    "take": Rule("another take of a text", "nothing: takes stay on one side of the split", False),
    "long_pause": Rule("long silence within", "cut it there, if that is easily done", False),
    "low_rate": Rule("dull: recorded at a low rate", "record at 22.05 kHz or more", False),
    "noisy": Rule("loud background", "record in a quieter room; the voice will have it", False),
}


@dataclass(frozen=True)
class Finding:
    """One fault of one clip: a word of `RULES`, and what was seen."""

    kind: str
    detail: str

    @property
    def rule(self) -> Rule:
        """What is to be done about it."""
        return RULES[self.kind]

    @property
    def stops(self) -> bool:
        """Whether the clip can't be used."""
        return self.rule.stops


def explain(finding: Finding) -> str:
    """Returns one sentence: what is wrong, and the remedy."""
    return f"{finding.rule.title}: {finding.detail}. Remedy: {finding.rule.remedy}."
