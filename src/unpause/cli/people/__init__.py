"""The command line for people: a client of a server's HTTP routes, which loads nothing of the server."""
