"""What the SQL drivers have in common, without a database: how rows read, whose turn it is, what becomes of a run.

A driver loads rows, hands them to the functions here, and writes what they decided.
"""
