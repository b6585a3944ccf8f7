"""What is done with the published Agno client, in its own environment: nothing of ours can be imported here."""
