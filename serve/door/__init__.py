"""What comes in: whose requests, how large, how many and how slow."""
