"""REST: each request walks from here through hooks and domain to one statement in the store."""
