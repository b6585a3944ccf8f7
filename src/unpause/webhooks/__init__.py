"""Webhooks: which servers get messages about runs; how they are signed, sent and retried."""
