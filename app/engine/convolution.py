"""Convolutions over frames that lie one after the other in memory, [T, channels].

That order is what the fast kernels of CPUs work in, and what makes a stream cheap: new frames are
appended, old ones cut off. On the CPU the weights are packed once for oneDNN, which also applies
the leaky ReLU that may follow. Knows nothing of streams.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from app.engine.vocoder_weights import ConvWeights

# Weights are packed for a length; any other is convolved with them as well.
_TYPICAL_FRAMES = 1000


class Convolution:
    """conv(frames), without padding, then a leaky ReLU where `slope` is given."""

    def __init__(self, weights: ConvWeights, slope: float | None = None) -> None:
        num_out, num_in, _ = weights.weight.shape
        self._num_in, self._num_out = num_in, num_out
        self._bias = weights.bias
        self._dilation = weights.dilation
        self._slope = slope
        kernel = weights.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self._is_packed = has_packed_convolutions(weights.weight)
        if self._is_packed:
            # torch has no public name for these two; it makes them for its own compiler (inductor)
            pack = torch.ops.mkldnn._reorder_convolution_weight  # noqa: SLF001
            self._convolve = torch.ops.mkldnn._convolution_pointwise.default  # noqa: SLF001
            shape = [1, num_in, 1, _TYPICAL_FRAMES]
            kernel = pack(kernel, [0, 0], [1, 1], [1, weights.dilation], 1, shape)
        self._kernel = kernel

    def apply(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns [T - (kernel - 1) * dilation, out] for [T, in]; T must be enough for one."""
        image = frames.view(1, 1, -1, self._num_in).permute(0, 3, 1, 2)
        dilation = [1, self._dilation]
        if self._is_packed:
            name, values = ("none", []) if self._slope is None else ("leaky_relu", [self._slope])
            image = self._convolve(
                *(image, self._kernel, self._bias, [0, 0], [1, 1], dilation, 1, name, values, "")
            )
        else:
            image = F.conv2d(image, self._kernel, self._bias, dilation=dilation)
            if self._slope is not None:
                image = F.leaky_relu(image, self._slope)
        return image.permute(0, 2, 3, 1).reshape(-1, self._num_out)


def has_packed_convolutions(weight: torch.Tensor) -> bool:
    """Says whether oneDNN's convolutions over packed weights can be used for such a weight."""
    names = ("_reorder_convolution_weight", "_convolution_pointwise")
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )
