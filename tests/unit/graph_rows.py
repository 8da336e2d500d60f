"""The toy's rows through the decoder for CUDA devices, on the CPU."""

from __future__ import annotations

from typing import Any

import toy

from app.engine.decoder import Decoder, StepOutput
from app.engine.gpt_weights import GptWeights
from app.engine.graph_decoder import GraphDecoder

#: toy rows are 38 to 211 positions long
SPANS = (64, 96, 128)
#: toy texts take 4 to 102 positions with what belongs to them
TEXTS = (8, 16, 32)


def toy_gpt() -> GptWeights:
    return toy.toy_model().gpt


def make_decoder(max_rows: int, recorder: Any = None) -> GraphDecoder:
    return GraphDecoder(toy_gpt(), max_rows, spans=SPANS, texts=TEXTS, recorder=recorder)


def start(decoder: Decoder, index: int) -> tuple[Any, StepOutput]:
    ids = tuple(range(10, 13 + 4 * (index % 7)))
    return decoder.prefill(ids, toy.voice(index).gpt_latents)


def draw_greedily(decoder: Decoder, num_rows: int, num_tokens: int) -> dict[int, list[int]]:
    """Lets rows enter one a step; each leaves with its own number of tokens, from `num_tokens`."""
    running: dict[int, tuple[Any, list[int]]] = {}
    drawn: dict[int, list[int]] = {}
    for step in range(2 * num_rows + num_tokens):
        if step < num_rows:
            row, out = start(decoder, step)
            running[step] = (row, [int(out.logits[0].argmax())])
        # in another order each time
        order = sorted(running, key=lambda index: (index + step) % num_rows)
        if not order:
            break
        output = decoder.step([running[i][0] for i in order], [running[i][1][-1] for i in order])
        for place, index in enumerate(order):
            running[index][1].append(int(output.logits[place].argmax()))
            if len(running[index][1]) == num_tokens + index % 5:
                drawn[index] = running.pop(index)[1]
    return drawn
