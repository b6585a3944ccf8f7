"""Who asks: tokens of our own, and JWTs that somebody else signs."""
