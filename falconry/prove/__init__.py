"""A trial of every stage on a real account, which is removed again, and its report."""
