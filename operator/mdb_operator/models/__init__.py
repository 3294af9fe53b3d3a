"""Plain data of the operator: what it saw, what it means to do, what it says. No I/O."""
