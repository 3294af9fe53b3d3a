"""What a process decides from memory: whose token it is, and what that app may reach.

`gate` checks the token, `granted` says what a name means and whether it is granted, `grant_cache`
keeps the grants as `grant_source` reads them, `audit` records what was decided. Nothing here
registers anything.
"""
