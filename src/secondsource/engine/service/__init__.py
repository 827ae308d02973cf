"""A thin server over the portable model: requests scheduled, sampled and answered over OpenAI's API."""
