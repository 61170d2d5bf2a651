"""What a report says: answers of runs, classes of errors, verdicts on the data."""
