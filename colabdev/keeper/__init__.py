"""One background process per runtime, on the user's computer.

It holds the one SSH connection (`link`), keeps a running agent at hand (`spares`) and hands streams to
everyone else on this computer (`server`, `streams`).
"""
