"""The published data sets that `abx data prepare` knows, one module each."""
