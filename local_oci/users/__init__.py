"""The Identity service's one user, and the auth tokens that are the user's passwords."""
