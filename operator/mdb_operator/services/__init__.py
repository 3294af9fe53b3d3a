"""The operator's decisions and the order in which they are carried out."""
