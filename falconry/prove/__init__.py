"""A trial of the whole way on a real account, which is removed again, and its report."""
