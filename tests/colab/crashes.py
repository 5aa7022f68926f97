"""Where a command dies while a runtime of Colab's is asked for, set up or given back."""

from __future__ import annotations

CONNECT = ("colab.begun", "colab.assigned", "colab.noted", "colab.set_up")
DOWN = ("colab.unassigned",)
COLAB = (*CONNECT, *DOWN)
