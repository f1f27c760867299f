"""What every service needs of HTTP: signatures, errors, bodies, pages, preconditions."""
