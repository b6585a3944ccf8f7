"""The AG-UI 1.0 protocol over the same runs."""
