"""What users pass in: checks with errors that name the argument, and collections of inputs."""
