"""Tables in text files, as OpenSIPS' db_text has them. They are only read."""
