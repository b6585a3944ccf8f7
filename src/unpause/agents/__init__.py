"""Agents: how they are described, found and driven."""
