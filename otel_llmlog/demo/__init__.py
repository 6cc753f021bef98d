"""A provider on localhost and a sample app: the whole product can be tried without a key or a network."""
