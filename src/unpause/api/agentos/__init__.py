"""Agno AgentOS's API."""
