"""What Penstock costs, beside a bare server and a known queue in the same run: `make bench`."""
