"""From a data set as it is published to our own shards."""
