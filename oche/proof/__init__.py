"""Try fast forms of a step in a child process before a run trusts them: compare, time, and remember the verdict."""
