"""What stands between the command line and the work: arguments, folders, ends, and the jobs."""
