"""Agents in processes of their own: authors' code runs there, without database, keys or tokens."""
