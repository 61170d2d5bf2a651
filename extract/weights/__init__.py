"""Where encoder weights come from, and how their files are read: strictly, running nothing."""
