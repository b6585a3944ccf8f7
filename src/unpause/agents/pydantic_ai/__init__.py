"""Runs Pydantic AI agents: the pattern for a second framework."""
