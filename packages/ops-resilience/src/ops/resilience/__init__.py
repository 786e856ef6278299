"""Retry, circuit breaker, rate limits and an HTTP client for calls that may fail."""
