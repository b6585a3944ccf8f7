"""Notifications: tells people by mail, chat or push where a run waits for them."""
