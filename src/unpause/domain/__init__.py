"""The words and rules of runs, without input or output."""
