"""The words: what an app, a run, an attempt, a worker and a decision are, and the pure rules between them."""
