"""SQLite: a database that is a file."""
