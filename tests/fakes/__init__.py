"""Stand-ins for the outside world which the tests talk to over real sockets."""
