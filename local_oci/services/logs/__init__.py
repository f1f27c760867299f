"""The Logging service and its search: log groups, logs, and what deployments write into them."""
