"""From a checkpoint to a bundle that the service lists, loads and speaks with."""
