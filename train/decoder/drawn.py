"""Codes of a recording, part of which the GPT drew itself: what it sounds like when it slips.

When a voice speaks, every code is drawn, and the latents are of what was drawn. A decoder that only
ever met latents of true codes reads those worse. Each draw here follows true codes, so that the
recording stays what the decoder is to make of them; whole texts of drawn codes would last longer or
shorter than it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Share of the codes that are drawn; now and then the draw is the true one.
DRAWN_SHARE = 0.4
#: About that at which voices speak.
_TEMPERATURE = 0.8


def mix_drawn(
    codes: npt.NDArray[np.int64], logits: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Returns codes [n] with a random share of them drawn from the logits of their places.

    Args:
        codes: [n], the true ones.
        logits: [n, number of codes], at each place with the true codes before it.
        rng: decides which are drawn, and as what.
    """
    places = np.flatnonzero(rng.random(len(codes)) < DRAWN_SHARE)
    # the likeliest after Gumbel noise is a draw from the softmax (Maddison et al. 2014)
    noisy = logits[places] / _TEMPERATURE + rng.gumbel(size=(len(places), logits.shape[1]))
    mixed: npt.NDArray[np.int64] = codes.copy()
    mixed[places] = noisy.argmax(axis=1)
    return mixed
