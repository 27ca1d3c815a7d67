"""The image, the compose file and the package they install."""
