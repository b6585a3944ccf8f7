"""Tells other servers of runs: chooses whom, signs, sends, and tries again."""
