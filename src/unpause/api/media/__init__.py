"""Files and images that come with a run."""
