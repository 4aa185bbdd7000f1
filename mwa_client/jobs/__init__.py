"""What can be asked for: the job file, its keys and values, and the request that each row makes."""
