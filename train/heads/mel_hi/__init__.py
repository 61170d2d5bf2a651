"""MEL-HI."""
