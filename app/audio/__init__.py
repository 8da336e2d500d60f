"""Samples: encoding, decoding of uploads, checks of what was made, joints between segments."""
