"""The console: pages for people at `/console`, and how a browser signs in."""
