"""The nouns and rules of runs, without input or output."""
