"""What runs against real servers, and their launcher."""
