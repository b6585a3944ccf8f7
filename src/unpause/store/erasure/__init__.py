"""Erases a user: the texts go, and a pseudonym stands where the name was. Batch by batch, each in a transaction."""
