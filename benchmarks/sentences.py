"""What the benchmarks say: short sentences of common words, each one segment for any model."""

from __future__ import annotations

SENTENCES = (
    "The wind rose before the morning came, and nobody heard it.",
    "She put the letter on the table and went out into the rain.",
    "There was nothing left to say, so they walked home together.",
    "A small boat was lying in the harbour, waiting for the tide.",
    "He had never seen so many lights in the streets of the town.",
    "The old man opened the door and looked at them for a while.",
    "In the evening the children came back from the river, tired.",
    "We will meet again in the spring, when the snow has melted.",
)
_BEGINNINGS = (
    "The wind rose",
    "Nobody heard the bell",
    "The small boat was waiting",
    "She read the letter again",
    "The children ran home",
    "He opened the window",
    "An old man was singing",
    "They drank their coffee",
    "The lights went out",
    "We talked about the harvest",
)
_ENDINGS = (
    "before the morning came.",
    "and then it began to rain.",
    "while the snow was falling.",
    "in the middle of the night.",
    "because it was getting late.",
    "until the last train left.",
    "although the street was empty.",
    "when the summer was over.",
    "as if nothing had happened.",
    "for the first time in years.",
)
MOST = len(_BEGINNINGS) * len(_ENDINGS)


def make_sentences(number: int) -> list[str]:
    """Returns so many different sentences.

    The first ones share neither beginning nor end, so that few of them are varied too.

    Raises:
        ValueError: more than `MOST` are wanted.
    """
    if not 0 < number <= MOST:
        raise ValueError(f"There are 1 to {MOST} sentences, not {number}.")
    many = len(_ENDINGS)
    return [
        f"{_BEGINNINGS[index % many]} {_ENDINGS[(index + index // many) % many]}"
        for index in range(number)
    ]
