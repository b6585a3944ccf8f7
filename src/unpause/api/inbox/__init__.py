"""The inbox: what waits for people, over all agents and both APIs."""
