"""A stand-in for Google Colab, for tests: `python -m tests.support.colab_server --state DIR`.

The session backend, the token endpoints, the Drive API and the runtime proxy on loopback, and real
machines behind them: namespaces of this computer with a real Jupyter server, kernel and sshd. What
the facts about Colab are, and how sure they are, stands in `facts.py`; what a test may do to it
while it runs, in `control.py`. A test has it as `tests.support.colab.Colab`.
"""
