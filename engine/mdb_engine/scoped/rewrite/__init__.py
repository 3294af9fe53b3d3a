"""What a query, an update or a pipeline becomes before it is sent.  Pure: no I/O, no driver.

Every input is copied (`values`), looked up in the tables of what is allowed (`operators`,
`stages`) and rewritten into its scope. What is refused is refused with its position in the input.
"""
