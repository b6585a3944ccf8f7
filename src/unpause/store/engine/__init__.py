"""The only place that knows the two databases."""
