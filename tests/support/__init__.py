"""What several tests share: servers in this process, servers in their own, and scripted agents."""
