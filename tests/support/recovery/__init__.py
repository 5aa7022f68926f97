"""Machines that die, jobs that go on, and who judges what came of it."""
