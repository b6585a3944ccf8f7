"""The generated SDKs in use, each where there is nothing of ours; see `tests/sdks/journey.py`."""
