"""Tests of opensips-py: real processes, sockets, databases and HTTP servers."""
