"""What the server costs: scripts that measure it, each beside something it can be compared with. No tests."""
