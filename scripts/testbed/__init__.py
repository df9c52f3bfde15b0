"""Real partners of a server under test or load: its own process tree, a private MariaDB, HTTP servers, sipp."""
