"""What the library costs: ratios against a plain client, taken in one run.  ``make bench``."""
