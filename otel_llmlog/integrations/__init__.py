"""Other libraries' own hooks, for those that see more than the wire does. Each module needs its library."""
