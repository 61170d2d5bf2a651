"""From scores to ranks and metrics, under the four protocols."""
