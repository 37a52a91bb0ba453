"""Tests of agentguard; a package, so that no other distribution's `tests` can stand before it."""
