"""Who makes a queue's requests: a batch goes in, an outcome for each comes back. Know no models."""
