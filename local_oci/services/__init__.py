"""The services of the cloud, each with its models, store, commands or workflows, and routes."""
