"""What the machine's compute stack can be trusted with, and where the work goes because of it."""
