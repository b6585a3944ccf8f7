"""The command ``unpause``."""
