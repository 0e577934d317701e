"""Places that models come from: the Hugging Face hub and S3 buckets. `octavo.model_source` is the door."""
