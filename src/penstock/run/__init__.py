"""The wiring: each role's entry, and the only place that reads the environment."""
