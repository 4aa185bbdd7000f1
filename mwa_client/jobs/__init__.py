"""What is asked for: from the text of a job file to checked requests for jobs."""
