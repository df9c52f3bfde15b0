"""What a person runs: the management client, load tests with sipp, the demonstration."""
