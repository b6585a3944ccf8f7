"""Takes runs that are ready and executes them."""
