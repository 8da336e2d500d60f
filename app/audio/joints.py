"""Where two segments of speech meet: the pause between them. Knows punctuation, no samples."""

from __future__ import annotations

#: Pauses on top of the silence that the model itself makes at a sentence's end (some 0.1 s).
SENTENCE_PAUSE_S = 0.25
CLAUSE_PAUSE_S = 0.15
#: A segment that ends within a clause was cut for its length alone: no pause of its own.
CUT_PAUSE_S = 0.0

_SENTENCE_ENDS = frozenset(".!?…。！？｡؟۔।॥")
_CLAUSE_ENDS = frozenset(",;:–—、，；：،؛-")
_CLOSERS = "\"'”’»›)]}」』）】》〉 \t\r\n"


def pause_s_after(text: str) -> float:
    """Returns the silence to put after a segment, in seconds, by its closing punctuation.

    Quotes and brackets that close after the punctuation are passed over.
    """
    end = text.rstrip(_CLOSERS)[-1:]
    if end in _SENTENCE_ENDS and end:
        return SENTENCE_PAUSE_S
    if end in _CLAUSE_ENDS and end:
        return CLAUSE_PAUSE_S
    return CUT_PAUSE_S
