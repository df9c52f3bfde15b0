"""PostgreSQL, over libpq (psycopg), which never blocks as it is used here."""
