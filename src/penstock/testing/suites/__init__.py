"""One public suite per port: a driver is certified by subclassing its suite with one fixture."""
