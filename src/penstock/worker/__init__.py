"""A door: what executes runs. The user's handler, the loop that feeds it, and the processes around the two.

The walk: `replica` loads the handler and runs `loop`, which asks (`asking`, `exchange`, `broker`), works (`round`,
`transfer`, `predict`, `ending`), and keeps its book (`hands`) while a `pulse` beats beside it.
"""
