"""GPU engines built by Data Science Jobs in Oracle's cloud."""
