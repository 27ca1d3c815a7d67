"""What the daemon shows over HTTP: metrics, health and status."""
