"""ASGI middleware: what every request passes before a route."""
