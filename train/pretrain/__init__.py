"""A whole XTTS from nothing, in stages: data, codes, GPT, decoder, bundle, report."""
