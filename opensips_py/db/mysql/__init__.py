"""MySQL and MariaDB without blocking."""
