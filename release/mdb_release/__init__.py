"""What `make release` runs: from a commit to everything that is published of it.

One commit and one version give one set of bytes, whoever builds it and wherever (`source` says how
the version gets in). What needs an account (pushing, signing) is the workflow's:
`.github/workflows/release.yml`.
"""
