"""Runs a repository's setup commands as an agent does its tools."""
