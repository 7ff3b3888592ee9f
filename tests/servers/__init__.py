"""Real InfluxDB servers for the system tests, built from their published packages."""
