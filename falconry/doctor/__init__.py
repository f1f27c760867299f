"""`make doctor`: checks this machine and its account for a profile.

Nothing is changed, started or fetched. Each check is a small function that gives one `Finding`.
"""
