"""A local server that signs requests to one deployment for clients that cannot sign."""
