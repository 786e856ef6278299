"""Events, hooks, metrics, audit, health and system figures from inside a program."""
