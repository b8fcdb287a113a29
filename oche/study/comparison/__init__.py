"""`oche compare`: methods and seeds on NAS-Bench-201 at one length."""
