"""Session tokens: signing requests as a user's session, as a resource, or as an instance."""
