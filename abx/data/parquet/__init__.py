"""Pictures in parquet files, as Hugging Face lays them out: which columns hold what, and reading them at random."""
