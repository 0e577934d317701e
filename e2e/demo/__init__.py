"""`make demo`: a stranger watches a real cluster turn an LLMDeployment into pods that answer."""
