"""The shapes of AgentOS's API, and how they are made of ours."""
