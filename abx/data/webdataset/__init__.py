"""Shards in the WebDataset layout: their headers, the samples in them, what is known of each, and the index kept."""
