"""What operators see of a process: its metrics, its traces, and a line for each change of a run."""
