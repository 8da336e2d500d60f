"""What happens around the epochs of a training run.

After each epoch its checkpoint speaks, is scored against the starting model, and is kept or not.
All of it is shown while it goes on, and the voice is handed over at the end. The loop itself is
elsewhere and is only watched (`train.events`).
"""
