"""What an audit found, on a page for people and in a file for programs."""
