"""Checks of what users hand in: pipelines, steps, configurations, the machine they run on."""
