"""The Identity service: the tenancy, its one user, and the auth tokens that are passwords."""
