"""What all rooms share: specifications, transitions, protocols, random streams, files, errors."""
