"""`oche compare`: methods and seeds at one length, in one table."""
