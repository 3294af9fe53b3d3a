"""The operator: MdbApp resources become registrations, grants and projected Secrets."""
