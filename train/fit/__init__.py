"""Fine-tuning of an XTTS GPT on prepared clips: the network, the batches, the steps, the run."""
