"""How committed events reach those who follow a run."""
