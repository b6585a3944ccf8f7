"""The demo: an agent that works in a folder, and the model that it runs on."""
