"""From text tokens to sound: the decoder, the sampler, the vocoder and the batch they share.

Knows tensors and weights; knows no text, no files, no coqui.
"""
