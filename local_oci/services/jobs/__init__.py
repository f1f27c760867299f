"""Data Science Jobs: jobs, and their runs, whose containers really run."""
