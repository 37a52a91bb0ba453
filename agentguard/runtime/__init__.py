"""
The wired whole: configuration, decorators, runs, threads and clock.

Takes a `Config`, gives a `Runtime` that every decorated call passes through.
"""
