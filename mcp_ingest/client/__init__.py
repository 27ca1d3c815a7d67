"""What applications use: the forward sender."""
