"""AG-UI's events and input, translated from and to the service's own objects."""
