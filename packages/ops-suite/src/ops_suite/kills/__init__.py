"""`demo --kill`: what was acknowledged before a kill is there after it. Nothing is imported here, so that writers start soon."""
