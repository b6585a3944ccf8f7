"""Claims PENDING runs and executes them."""
