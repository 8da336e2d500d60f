"""From a request to checked speech: segments, seeds, retries, order. Knows no process or socket."""
