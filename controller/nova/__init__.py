"""A nova-network cloud, read from a copy of its database and told in the words of this API."""
