"""Delivers messages that are stored with the change that they describe: retries, back-off, and fairness."""
