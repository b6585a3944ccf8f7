"""Authentication by the server's own tokens and by JWTs."""
