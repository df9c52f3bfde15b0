"""What scripts run against: reception, routes, core functions, async engine, statistics, management commands."""
