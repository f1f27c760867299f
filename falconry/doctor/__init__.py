"""What `make doctor` finds out: whether this machine and what is around it serve a profile.

Nothing is changed, started or fetched. Each check is a small function that gives one `Finding`.
"""
