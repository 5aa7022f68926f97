"""The part that runs on the runtime: standard library only, Python 3.8 syntax, relative imports only.

It travels as a zip (`adapters/agent_archive.py`) in which this package is called `colabdev_agent`.
`wire` is a value module: what both ends must agree on, written once. The other modules are the
agent's own and nobody else imports them.
"""
