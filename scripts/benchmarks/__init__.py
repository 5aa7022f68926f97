"""What colabdev costs, measured beside what it is compared with. Run it by `scripts/bench`.

Every module here but `measure` is a bench: it has `run(rounds: int) -> list[Row]`, and may have
`ROUNDS`, the number of rounds that its medians need.
"""
